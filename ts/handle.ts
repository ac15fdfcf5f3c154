// The handle of a lease that this process holds.
import { Releasable, type Disposal, refusal } from "./disposal.js";
import { errorOf, isFailure, type LockError } from "./errors.js";
import { hold, leases, letGo, type LossListener } from "./environment.js";
import type { Client, Failure, Grant } from "./native.js";
import { cancellable, quietly, refuseAborted, signalOf } from "./signals.js";
import type { ExtendResult, Fence, NativeLockHandle, OnLeaseLost, ReleaseResult } from "./types.js";

const LOST: Failure = {
  failed: true,
  code: "LeaseLost",
  message: "the lease was lost: it expired, or somebody removed it",
  retryable: false,
  outcome: "not-applied",
};

/** A lease of this environment: what its handle does, and what is known about its end. */
export class Lease extends Releasable implements LossListener {
  private onLeaseLost: OnLeaseLost | undefined;
  private loss: LockError | undefined;
  /** The store said at the release that there is nothing to release. */
  private gone = false;
  private controller: AbortController | undefined;
  private watched = false;

  constructor(
    readonly client: Client,
    readonly grant: Grant,
    disposal: Disposal,
  ) {
    super(disposal);
    leases.set(grant.lockId, this);
  }

  /** Sets who hears of a loss, also where nobody holds the handle any more. */
  listen(onLeaseLost: OnLeaseLost): void {
    this.listenWhileAwaited(onLeaseLost);
    this.watch();
  }

  /** The same for one who is of interest only as long as somebody waits for what is done under the lease. */
  listenWhileAwaited(onLeaseLost: OnLeaseLost): void {
    this.onLeaseLost = onLeaseLost;
  }

  /** A signal or a callback may be all that is left of this copy of the package: the lease's end must still be told. */
  private watch(): void {
    if (this.watched || this.ended || this.loss !== undefined) return;
    this.watched = true;
    hold();
  }

  private unwatch(): void {
    if (!this.watched) return;
    this.watched = false;
    letGo();
  }

  /** Whether the lease is still held, by the local deadline; when it has just passed, the signal says so at once. */
  isValid(): boolean {
    return this.remainingMs() > 0;
  }

  remainingMs(): number {
    if (this.ended || this.loss !== undefined) return 0;
    // Rounded down: better to say so a fraction early than late.
    const remaining = Math.floor(this.client.remainingMs(this.grant.lockId));
    if (remaining > 0) return remaining;
    this.abort(LOST);
    return 0;
  }

  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.loss !== undefined) this.controller.abort(this.loss);
      else if (this.remainingMs() > 0) this.watch();
    }
    return this.controller.signal;
  }

  async extend(ttlMs: unknown, signal: AbortSignal | undefined): Promise<ExtendResult> {
    refuseAborted(signal);
    if (this.ended || this.loss !== undefined) return { ok: false };
    const { client } = this;
    const { lockId } = this.grant;
    const answer = await cancellable(signal, (cancel) => client.extend(cancel, lockId, ttlMs, true));
    if (isFailure(answer)) throw errorOf(answer, this.disposal, signal, "Operation");
    if (answer.ok) return { ok: true, expiresAtMs: answer.expiresAtMs };
    this.lost(LOST);
    return refusal(answer.reason);
  }

  /** The lease is gone without our doing: aborts the signal and tells `onLeaseLost`, once. */
  lost(failure: Failure): void {
    if (this.ended) return;
    leases.delete(this.grant.lockId);
    this.unwatch();
    this.tell(this.abort(failure));
  }

  /** A deadline that passed unheard while the event loop was blocked. */
  lostIfPast(): void {
    if (!this.isValid()) this.lost(LOST);
  }

  /** After the release: there was no lease any more. */
  lostIfGone(): void {
    if (this.gone) this.tell(this.loss ?? errorOf(LOST, this.disposal));
  }

  private tell(loss: LockError): void {
    const tell = this.onLeaseLost;
    this.onLeaseLost = undefined;
    const { lockId, key } = this.disposal;
    if (tell) quietly(() => tell(loss, { lockId, key, fence: this.grant.fence as Fence }));
  }

  protected async send(signal: AbortSignal | undefined): Promise<ReleaseResult> {
    const { client } = this;
    const { lockId } = this.grant;
    const answer = await cancellable(signal, (cancel) => client.release(cancel, lockId));
    if (isFailure(answer)) throw errorOf(answer, this.disposal, signal, "Operation");
    if (answer.ok) return { ok: true };
    this.gone = true;
    return refusal(answer.reason);
  }

  protected override end(): void {
    super.end();
    leases.delete(this.grant.lockId);
    this.unwatch();
  }

  private abort(failure: Failure): LockError {
    this.loss ??= errorOf(failure, this.disposal);
    this.controller?.abort(this.loss);
    return this.loss;
  }
}

/** Answers the object it is given, so that a subclass's private fields end up on that one. */
// biome-ignore lint/complexity/useArrowFunction: an arrow function is no constructor.
const Given = function (object: object) {
  return object;
} as unknown as new (
  object: object,
) => object;

/** Marks a handle with its lease, where nobody sees it: for the accessor that all handles share. */
class Mark extends Given {
  readonly #lease: Lease;

  constructor(handle: object, lease: Lease) {
    super(handle);
    this.#lease = lease;
  }

  static leaseOf(handle: object): Lease | undefined {
    return #lease in handle ? (handle as Mark).#lease : undefined;
  }
}

/** Lets a layer's handle have the signal of the handle below. */
export function markWith(handle: object, lease: Lease): void {
  new Mark(handle, lease);
}

/**
 * One accessor for all handles, so that they keep one shape: an accessor in the object literal would cost ten
 * times as much as the rest of it. A stranger that borrows it (a proxy, say) is known by its lock id.
 */
const SIGNAL: PropertyDescriptor & ThisType<Grant> = {
  get() {
    const lease = Mark.leaseOf(this) ?? (leases.get(this.lockId) as Lease | undefined);
    return lease?.signal ?? AbortSignal.abort(errorOf(LOST));
  },
  enumerable: true,
  configurable: true,
};

/** The handle of a lease: a plain object whose methods are its own, so that they can be taken out of it. */
export function handleOf(lease: Lease): Grant & NativeLockHandle {
  const { lockId, expiresAtMs, fence } = lease.grant;
  const handle = {
    ok: true,
    lockId,
    expiresAtMs,
    fence,
    release: (signal?: AbortSignal) => (signal === undefined ? lease.release(undefined) : releaseWith(lease, signal)),
    extend: async (ttlMs: number, signal?: AbortSignal) => lease.extend(ttlMs, signalOf(signal)),
    isValid: () => lease.isValid(),
    remainingMs: () => lease.remainingMs(),
  } as Grant & NativeLockHandle;
  // Not in the literal, for the same reason.
  handle[Symbol.asyncDispose] = () => lease.dispose();
  Object.defineProperty(handle, "signal", SIGNAL);
  new Mark(handle, lease);
  return handle;
}

const releaseWith = async (lease: Lease, signal: unknown) => lease.release(signalOf(signal));

const answerNo = async (): Promise<{ ok: false }> => ({ ok: false });
const doNothing = async (): Promise<void> => {};
const no = (): boolean => false;
const zero = (): number => 0;

/** A signal that never fires, made when it is first asked for. */
const NEVER: PropertyDescriptor & ThisType<object> = {
  get() {
    const { signal } = new AbortController();
    Reflect.defineProperty(this, "signal", { value: signal, enumerable: true, configurable: true });
    return signal;
  },
  enumerable: true,
  configurable: true,
};

/** The answer to a refused acquire: the same methods, which do nothing. */
export function refusedHandle(): { ok: false; reason: "locked" } & NativeLockHandle {
  const handle = {
    ok: false,
    reason: "locked",
    release: answerNo,
    extend: answerNo,
    isValid: no,
    remainingMs: zero,
  } as unknown as { ok: false; reason: "locked" } & NativeLockHandle;
  handle[Symbol.asyncDispose] = doNothing;
  return Object.defineProperty(handle, "signal", NEVER);
}
