// Releasing at the end of a scope, and what becomes of its failure.
import { asError, LockError } from "./errors.js";
import { orAborted, quietly, refuseAborted } from "./signals.js";
import type { OnReleaseError, ReleaseResult } from "./types.js";

/** What a disposal needs to report: whose it is, and to whom. */
export interface Disposal {
  readonly lockId: string;
  readonly key: string;
  readonly onReleaseError: OnReleaseError | undefined;
  readonly disposeTimeoutMs: number | undefined;
}

/** Timers of Node.js count to 2^31 - 1; longer bounds are no bounds (25 days). */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Releases within the disposal's bound. Never throws: whatever goes wrong is reported. */
export async function dispose(release: () => Promise<unknown>, disposal: Disposal): Promise<void> {
  try {
    const bound = disposal.disposeTimeoutMs;
    await (bound === undefined || bound > LONGEST_TIMER_MS ? release() : within(bound, release()));
  } catch (error) {
    reportReleaseError(error, disposal);
  }
}

/** Tells `onReleaseError`, or the default log, of a release that nobody else can hear of. */
export function reportReleaseError(thrown: unknown, disposal: Disposal): void {
  const error = asError(thrown);
  const { onReleaseError, lockId, key } = disposal;
  quietly(() => {
    if (onReleaseError) return onReleaseError(error, { lockId, key, source: "disposal" });
    return logDisposalFailure(error, lockId, key);
  });
}

/** The default log: without the secrets that the error's message may hold. */
export function logDisposalFailure(thrown: unknown, ...secrets: string[]): void {
  if (process.env.NODE_ENV === "production" && process.env.SYNCGUARD_DEBUG !== "true") return;
  const { name, message } = asError(thrown);
  const code = (thrown as Partial<LockError> | null | undefined)?.code;
  const isTold = !secrets.some((secret) => secret !== "" && message.includes(secret));
  const error = isTold ? message : `${typeof code === "string" ? code : name} (its message holds the key or the lock id)`;
  console.error("[SyncGuard] Lock disposal failed:", { error, errorName: name, source: "disposal" });
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const context = { retryable: true, outcome: "unknown" } as const;
      reject(new LockError("NetworkTimeout", `the release took longer than disposeTimeoutMs (${ms} ms)`, context));
    }, ms);
    // What tests have put in the place of timers may have no such method, or be nothing.
    timer?.unref?.();
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Where a refused release or extend says why, as `{ reason: "expired" | "not-found" }`: for telemetry, and where neither
 * printing nor comparing sees it.
 */
export const FAILURE_REASON: unique symbol = Symbol.for("syncguard.failureReason") as never;

/** `{ ok: false }`, and why. */
export function refusal(reason: string | undefined): { ok: false } {
  const answer: { ok: false } = { ok: false };
  if (reason !== undefined) Object.defineProperty(answer, FAILURE_REASON, { value: { reason } });
  return answer;
}

export function reasonOf(answer: object): string | undefined {
  const left = (answer as Record<symbol, { reason?: unknown } | undefined>)[FAILURE_REASON];
  return typeof left?.reason === "string" ? left.reason : undefined;
}

/** The release of one lease: once with an answer, however often it is called and disposed of. */
export abstract class Releasable {
  /** Whether release() has been called: the lease is no longer valid. */
  protected ended = false;
  private answered = false;
  private running: Promise<ReleaseResult> | undefined;
  private disposing: Promise<void> | undefined;

  protected constructor(readonly disposal: Disposal) {}

  /** Sends one release. Must not throw synchronously. */
  protected abstract send(signal: AbortSignal | undefined): Promise<ReleaseResult>;

  /** The lease has ended, whatever the store will say. */
  protected end(): void {
    this.ended = true;
  }

  /** Whether a release was answered, so that another one would say `{ ok: false }` without I/O. */
  get done(): boolean {
    return this.answered;
  }

  /** Ends the lease; see `DisposableLockHandle.release`. */
  release(signal: AbortSignal | undefined): Promise<ReleaseResult> {
    const first = this.running === undefined && !this.answered && !signal?.aborted;
    return first ? (this.running = this.once(signal)) : this.again(signal);
  }

  private async once(signal: AbortSignal | undefined): Promise<ReleaseResult> {
    this.end();
    try {
      const result = await this.send(signal);
      this.answered = true;
      return result;
    } finally {
      this.running = undefined;
    }
  }

  /** Nothing to do after an answer; after another call's error, what that call could not do. */
  private async again(signal: AbortSignal | undefined): Promise<ReleaseResult> {
    refuseAborted(signal);
    while (this.running !== undefined) {
      const other = this.running.then(
        () => true,
        () => false,
      );
      if (await orAborted(other, signal)) return { ok: false };
    }
    return this.answered ? { ok: false } : this.release(signal);
  }

  /** Releases if that is still to be done. Idempotent, never throws. */
  dispose(disposal: Disposal = this.disposal): Promise<void> {
    this.disposing ??= this.answered ? Promise.resolve() : dispose(() => this.release(undefined), disposal);
    return this.disposing;
  }
}
