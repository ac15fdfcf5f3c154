// The entry "syncguard/file".

import { backendOf } from "./backend.js";
import { lockFunctionOf } from "./lock.js";
import { open } from "./open.js";
import { file } from "./targets/file.js";
import type { FileCapabilities, LockFunction, NativeBackend, NativeBackendOptions } from "./types.js";

export { FileLock, type FileLockOptions } from "./file-lock.js";
export type * from "./types.js";

/** Options of the file backend. */
export interface FileBackendOptions extends NativeBackendOptions {
  /**
   * What happens to the locks of a process that dies. "takeover": others get them at once. "wait": they last until
   * their TTL, for locks that nobody releases on purpose. Default: "takeover".
   */
  ownerDeath?: "takeover" | "wait";
}

/** The options with their defaults. */
export interface FileConfig {
  /** What happens to the locks of a process that dies. */
  ownerDeath: "takeover" | "wait";
  /** Whether `isLocked` may delete what expired over two seconds ago. */
  cleanupInIsLocked: boolean;
}

/**
 * A backend over the files of a directory of this host. `target`: the directory, a `file:` URL, or `{ directory }`.
 * Does no I/O: it opens the directory on first use.
 * @throws LockError InvalidArgument for a target or options that make no sense.
 */
export function createFileBackend(
  target: string | URL | { directory: string },
  options?: FileBackendOptions,
): NativeBackend<FileCapabilities> {
  return backendOf(open(file, target, options));
}

/**
 * A function that runs another one while holding a lock file. Target, options and errors are those of
 * `createFileBackend`.
 */
export function createLock(target: string | URL | { directory: string }, options?: FileBackendOptions): LockFunction {
  return lockFunctionOf(open(file, target, options));
}
