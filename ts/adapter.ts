// A backend written in JavaScript, as the engine asks it: attempt by attempt.
import { createDisposableHandle, isHandle, releasableOf } from "./decorate.js";
import { reasonOf } from "./disposal.js";
import { adapters, type AttemptRunner, hold, letGo } from "./environment.js";
import { isError, LockError } from "./errors.js";
import type { Failure, ForeignFailure, Settlement } from "./native.js";
import { ERROR_CODES } from "./nouns.js";
import { withSignal } from "./signals.js";
import type { AcquireOk, AsyncLock, BackendCapabilities, LockBackend, OnReleaseError } from "./types.js";

/** What one acquire of a JavaScript backend takes. */
export interface Order {
  key: string;
  signal: AbortSignal | undefined;
  onReleaseError: OnReleaseError | undefined;
}

interface Try<C> {
  answer: Promise<AsyncLock<C> | undefined>;
  failedUndos: number;
}

/**
 * One `lock()` over a JavaScript backend, as the engine sees it: it asks for attempts and undos by the names
 * that it gives to the attempts, and this keeps what the backend answered under each name.
 */
export class Adapter<C extends BackendCapabilities> implements AttemptRunner {
  readonly slot = adapters.add(this);
  private readonly tries = new Map<string, Try<C>>();
  private readonly thrown = new Map<number, unknown>();
  private locking = true;

  constructor(
    private readonly backend: LockBackend<C>,
    private readonly order: Order,
  ) {
    hold();
  }

  /** The handle of the attempt that the engine accepted: the backend's own, if it made one. */
  async granted(name: string): Promise<AsyncLock<C>> {
    const result = await this.tries.get(name)?.answer;
    if (result === undefined) throw new LockError("Internal", "the engine accepted an attempt that was not granted");
    return result;
  }

  /** The error that the backend threw, itself. */
  thrownFor(failure: Failure): { error: unknown } | undefined {
    const number = failure.foreign;
    return number !== undefined && this.thrown.has(number) ? { error: this.thrown.get(number) } : undefined;
  }

  /** The engine has settled this lock; only undos can still come. */
  settled(): void {
    this.locking = false;
    this.removeIfIdle();
  }

  async attempt(name: string, ttlMs: number): Promise<Settlement> {
    const answer = this.acquire(ttlMs);
    const entry: Try<C> = { answer: answer.catch(() => undefined), failedUndos: 0 };
    this.tries.set(name, entry);
    try {
      const result = await answer;
      if (result === undefined) {
        this.drop(name, entry);
        return { granted: false };
      }
      const { expiresAtMs } = result;
      return { granted: true, expiresAtMs: Number.isFinite(expiresAtMs) ? expiresAtMs : Date.now() + ttlMs };
    } catch (error) {
      this.drop(name, entry);
      return this.failure(error);
    }
  }

  async undo(name: string): Promise<Settlement> {
    const entry = this.tries.get(name);
    const result = await entry?.answer;
    if (entry === undefined || result === undefined) return { ok: false, reason: "not-found" };
    try {
      const answer = await this.release(result);
      this.forget(name);
      const reason = reasonOf(answer);
      return answer.ok || reason === undefined ? { ok: answer.ok } : { ok: false, reason };
    } catch (error) {
      // The engine tries once more at most.
      if (++entry.failedUndos > 1) this.forget(name);
      return this.failure(error);
    }
  }

  private async acquire(ttlMs: number): Promise<AsyncLock<C> | undefined> {
    const { key, signal, onReleaseError } = this.order;
    const result = await this.backend.acquire(withSignal({ key, ttlMs }, signal));
    if (result?.ok === false) return undefined;
    if (result?.ok === true && typeof result.lockId === "string") {
      return isHandle(result)
        ? (result as AsyncLock<C>)
        : createDisposableHandle(this.backend, result as AcquireOk<C>, key, onReleaseError);
    }
    throw new LockError("Internal", "acquire() of the backend answered neither a grant with a lockId nor { ok: false }");
  }

  private async release(result: AsyncLock<C>): Promise<{ ok: boolean }> {
    // A handle of this package knows whether it was released; of others only the backend can be asked.
    const releasable = releasableOf(result);
    if (releasable === undefined) return this.backend.release({ lockId: result.lockId });
    return releasable.done ? { ok: false } : result.release();
  }

  /** This attempt is over: its grant was released, or there was none, or nobody will try again. */
  forget(name: string): void {
    this.tries.delete(name);
    this.removeIfIdle();
  }

  /** The same, unless the engine has meanwhile repeated the attempt because this one took too long. */
  private drop(name: string, entry: Try<C>): void {
    if (this.tries.get(name) === entry) this.forget(name);
  }

  private removeIfIdle(): void {
    if (this.locking || this.tries.size > 0 || !adapters.remove(this.slot)) return;
    letGo();
  }

  /** What the engine needs to know of an error; the error itself stays here. */
  private failure(error: unknown): ForeignFailure {
    const foreign = this.thrown.size + 1;
    this.thrown.set(foreign, error);
    const lockError = asLockError(error);
    const { retryable, outcome } = lockError?.context ?? {};
    return { failed: true, code: lockError?.code ?? "Internal", message: "the backend's own error", retryable, outcome, foreign };
  }
}

/** @internal A LockError, also one of another copy of this package. */
export function asLockError(error: unknown): LockError | undefined {
  const given = error as Partial<LockError> | null | undefined;
  return isError(given) && given.name === "LockError" && ERROR_CODES.has((given as LockError).code)
    ? (given as LockError)
    : undefined;
}
