// The lease file.
import { callback } from "./checks.js";
import { logDisposalFailure } from "./disposal.js";
import { files, type FileListener, here, hold, letGo } from "./environment.js";
import { errorOf, isFailure, LockError, unwrap } from "./errors.js";
import type { Failure, NativeFileLock } from "./native.js";
import { own } from "./nouns.js";
import { optionsOf } from "./open.js";
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
  /** How often the holder writes its heartbeat, in ms: at most half of `leaseStaleThresholdMs`. Default 250. */
  leaseHeartbeatIntervalMs?: number;
  /** How old a heartbeat must be, in ms, for its file to be taken over. Default 3000. */
  leaseStaleThresholdMs?: number;
  /** How long `acquire()` and `release()` may take before a disk that hangs is `NetworkTimeout`, in ms. Default 5000. */
  operationTimeoutMs?: number;
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

/** An ending process takes its files along: a Go peer can't see that their owner is dead and waits for them to go stale. */
const leaveAll = (): void => {
  for (const file of files.values()) file.leave();
};

function keep(slot: number, listener: FileListener): void {
  if (!files.put(slot, listener)) return;
  hold();
  if (files.size === 1) process.on("exit", leaveAll);
}

function letBe(slot: number): void {
  if (!files.remove(slot)) return;
  letGo();
  if (files.size === 0) process.removeListener("exit", leaveAll);
}

/**
 * One lease file that keeps others out, compatible with Go's `vormadev/vorma/kit/lockfile`: a process of each exclude
 * each other on one path. The heartbeat runs on a thread of its own, so a blocked event loop does not lose the file.
 */
export class FileLock implements AsyncDisposable {
  /** The path as it was given. */
  readonly path: string;
  readonly #native: NativeFileLock;
  readonly #slot = files.reserve();
  readonly #listener: FileListener;
  readonly #heldError: Error | undefined;
  #acquiring = 0;

  /**
   * Does no I/O.
   * @throws LockError InvalidArgument for a path or options that make no sense.
   */
  constructor(path: string, options?: FileLockOptions) {
    const entries = optionsOf(options, "heldError", "onLeaseLost", "processAppearsAlive");
    const onLeaseLost = callback("onLeaseLost", own(options, "onLeaseLost"));
    const probe = callback("processAppearsAlive", own(options, "processAppearsAlive"));
    this.#listener = {
      lost: (failure) => {
        this.#keep();
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
      leave: () => this.#native.leave(),
    };
    this.#native = unwrap(here.fileLock(path, entries, this.#slot, probe !== undefined));
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
   *   ServiceUnavailable for a full disk; NetworkTimeout for one that does not answer: what it grants later is given back.
   */
  async acquire(): Promise<this> {
    this.#acquiring++;
    this.#keep();
    const answer = await this.#native.acquire();
    this.#acquiring--;
    this.#keep();
    if (isFailure(answer)) throw this.#refusal(answer);
    return this;
  }

  /**
   * Removes the file, if it is still ours; `{ ok: false }` when it was released before, lost, or is another owner's.
   * @throws LockError when the system refuses; the file is then still held. NetworkTimeout when the disk does not
   *   answer: it is then released as soon as it does.
   */
  async release(): Promise<ReleaseResult> {
    const answer = await this.#native.release();
    this.#keep();
    if (isFailure(answer)) throw errorOf(answer);
    return { ok: answer.ok };
  }

  /** Releases. Idempotent, never throws: what the system refuses is logged, and becomes stale by itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch((error) => quietly(() => logDisposalFailure(error)));
  }

  /** A held file keeps its object, since a collected one would give its file up; a free one keeps nothing. */
  #keep(): void {
    if (this.#acquiring > 0 || this.held) keep(this.#slot, this.#listener);
    else letBe(this.#slot);
  }

  #refusal(failure: Failure): LockError {
    const error = errorOf(failure);
    if (failure.holder === undefined || this.#heldError === undefined) return error;
    return new LockError(error.code, error.message, { ...error.context, cause: this.#heldError });
  }
}
