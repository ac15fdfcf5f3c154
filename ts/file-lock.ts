import { callback } from "./checks.js";
import { entriesOf } from "./entries.js";
import { files, type FileListener } from "./environment.js";
import { errorOf, isFailure, LockError, unwrap } from "./errors.js";
import { type Failure, native, type NativeFileLock } from "./native.js";
import { own } from "./nouns.js";
import { quietly } from "./signals.js";
import type { ReleaseResult } from "./types.js";

/** How a lease file is acquired and kept. The defaults are those of Go's `vormadev/vorma/kit/lockfile`. */
export interface FileLockOptions {
  /** How often an attempt is repeated that met another process which was taking the file away. Default 12. */
  acquireRetryLimit?: number;
  /** The time between those attempts, in ms. Default 20. */
  acquireRetryDelayMs?: number;
  /** How old a file must be, in ms, to be taken away though its content says nothing. Default 1200. */
  invalidLockStaleThresholdMs?: number;
  /** How often the holder writes its heartbeat, in ms. Default 250. */
  leaseHeartbeatIntervalMs?: number;
  /** How old a heartbeat must be, in ms, for its file to be taken over. Default 3000. */
  leaseStaleThresholdMs?: number;
  /** Permissions of the file. Default 0o644. */
  fileMode?: number;
  /** Permissions of directories that are made. Default 0o755. */
  directoryMode?: number;
  /** Becomes the `cause` of the error with which `acquire()` is refused. */
  heldError?: Error;
  /** Told once, when somebody took, removed or changed the file, or no heartbeat could be written; never of a release. */
  onLeaseLost?: (error: LockError) => void;
  /** Answers whether a process lives, in place of asking the operating system. */
  processAppearsAlive?: (pid: number) => boolean;
}

/** Held files keep their objects, since a collected one would give its file up. */
const held = new Set<FileLock>();

/**
 * One lease file that keeps others out, compatible with Go's `vormadev/vorma/kit/lockfile`: a process of each exclude
 * each other on one path. The heartbeat runs on a thread of its own, so a blocked event loop does not lose the file.
 */
export class FileLock implements AsyncDisposable {
  /** The path as it was given. */
  readonly path: string;
  readonly #native: NativeFileLock;
  readonly #slot: number;
  readonly #heldError: Error | undefined;

  /**
   * Does no I/O.
   * @throws LockError InvalidArgument for a path or options that make no sense.
   */
  constructor(path: string, options?: FileLockOptions) {
    const onLeaseLost = callback("onLeaseLost", own(options, "onLeaseLost"));
    const probe = callback("processAppearsAlive", own(options, "processAppearsAlive"));
    const entries = entriesOf(options, "heldError", "onLeaseLost", "processAppearsAlive");
    const listener: FileListener = {
      lost: (failure) => {
        held.delete(this);
        if (onLeaseLost !== undefined) quietly(() => onLeaseLost(errorOf(failure)));
      },
      // What a failing function says nothing about counts as alive.
      isAlive: (pid) => {
        try {
          return probe?.(pid) !== false;
        } catch {
          return true;
        }
      },
    };
    this.#slot = files.add(listener);
    this.#native = unwrap(native.fileLock(path, entries, this.#slot, probe !== undefined));
    this.#heldError = own(options, "heldError");
    this.path = path;
  }

  /** Whether it is held: neither released nor found lost. Local, no I/O. */
  get held(): boolean {
    return this.#native.held;
  }

  /**
   * Takes the file. Answers at once when somebody holds it; waits only where others are just removing it.
   * @throws LockError AcquisitionTimeout with `context.pid` when it is held (`cause` is `heldError` where that was
   *   given); InvalidArgument when something other than a file is at the path; AuthFailed without permission;
   *   ServiceUnavailable for a full disk.
   */
  async acquire(): Promise<this> {
    const answer = await this.#native.acquire();
    if (isFailure(answer)) throw this.#refusal(answer);
    held.add(this);
    return this;
  }

  /**
   * Removes the file, if it is still ours; `{ ok: false }` when it was released before, lost, or is another owner's.
   * @throws LockError when the system refuses; the file is then still held.
   */
  async release(): Promise<ReleaseResult> {
    const answer = await this.#native.release();
    if (isFailure(answer)) throw errorOf(answer);
    held.delete(this);
    return { ok: answer.ok };
  }

  /** Releases. Idempotent, never throws: what the system refuses becomes stale by itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch(() => {});
  }

  #refusal(failure: Failure): LockError {
    const error = errorOf(failure);
    if (failure.holder === undefined || this.#heldError === undefined) return error;
    return new LockError(error.code, error.message, { ...error.context, cause: this.#heldError });
  }
}
