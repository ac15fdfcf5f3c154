// Handles for backends that are written in JavaScript.

import { callback, requireBackend } from "./checks.js";
import { type Disposal, Releasable } from "./disposal.js";
import { invalid, LockError, unwrap } from "./errors.js";
import { native } from "./native.js";
import { refuseAborted, signalOf, withSignal } from "./signals.js";
import type {
  AcquireOk,
  AcquireResult,
  AsyncLock,
  BackendCapabilities,
  DecoratedAcquireResult,
  DisposableLockHandle,
  ExtendResult,
  KeyOp,
  LockBackend,
  OnReleaseError,
  ReleaseResult,
} from "./types.js";

type Operations<C extends BackendCapabilities> = Pick<LockBackend<C>, "release" | "extend">;

/** A lease that a JavaScript backend granted. */
class JavaScriptLease<C extends BackendCapabilities> extends Releasable {
  constructor(
    private readonly backend: Operations<C>,
    disposal: Disposal,
  ) {
    super(disposal);
  }

  async extend(ttlMs: number, signal: AbortSignal | undefined): Promise<ExtendResult> {
    refuseAborted(signal);
    if (this.ended) return { ok: false };
    const { lockId } = this.disposal;
    return this.backend.extend(withSignal({ lockId, ttlMs }, signal));
  }

  protected async send(signal: AbortSignal | undefined): Promise<ReleaseResult> {
    const { lockId } = this.disposal;
    return this.backend.release(withSignal({ lockId }, signal));
  }
}

const releasables = new WeakMap<object, Releasable>();

/** @internal The release state behind a handle that this package made for a JavaScript backend or a layer. */
export function releasableOf(handle: object): Releasable | undefined {
  return releasables.get(handle);
}

/** @internal */
export function setReleasable(handle: object, releasable: Releasable): void {
  releasables.set(handle, releasable);
}

/**
 * Gives a granted acquire of a JavaScript backend its methods, which call the backend's `release` and `extend`.
 * Release and disposal are idempotent; errors of the disposal, and its running into `disposeTimeoutMs`, go to `onReleaseError`.
 * @throws LockError InvalidArgument when `result` was not granted, for an `onReleaseError` that is no function, and for a `disposeTimeoutMs`
 *   that is no time: an integer from 1 ms to 100 years.
 */
export function createDisposableHandle<C extends BackendCapabilities>(
  backend: Operations<C>,
  result: AcquireOk<C>,
  key: string,
  onReleaseError?: OnReleaseError,
  disposeTimeoutMs?: number,
): AsyncLock<C> {
  requireBackend(backend, "release", "extend");
  if (result?.ok !== true) throw invalid("result must be a granted acquire ({ ok: true, … })");
  check(onReleaseError, disposeTimeoutMs);
  const lease = new JavaScriptLease(backend, { lockId: result.lockId, key, onReleaseError, disposeTimeoutMs });
  const handle = Object.assign({}, result, {
    release: async (signal?: AbortSignal) => lease.release(signalOf(signal)),
    extend: async (ttlMs: number, signal?: AbortSignal) => lease.extend(ttlMs, signalOf(signal)),
    [Symbol.asyncDispose]: () => lease.dispose(),
  });
  releasables.set(handle, lease);
  return handle;
}

/**
 * Gives the answer of a JavaScript backend's acquire its methods: those of `createDisposableHandle` when it was
 * granted, ones that do nothing when it was refused, so that `await using` works either way.
 * @throws LockError InvalidArgument as `createDisposableHandle`.
 */
export function decorateAcquireResult<C extends BackendCapabilities>(
  backend: Operations<C>,
  result: AcquireResult<C>,
  key: string,
  onReleaseError?: OnReleaseError,
  disposeTimeoutMs?: number,
): DecoratedAcquireResult<C> {
  if (result.ok) return createDisposableHandle(backend, result, key, onReleaseError, disposeTimeoutMs);
  check(onReleaseError, disposeTimeoutMs);
  return Object.assign({}, result, {
    release: async (): Promise<ReleaseResult> => ({ ok: false }),
    extend: async (): Promise<ExtendResult> => ({ ok: false }),
    [Symbol.asyncDispose]: async () => {},
  });
}

function check(onReleaseError: unknown, disposeTimeoutMs: unknown): void {
  callback("onReleaseError", onReleaseError);
  if (disposeTimeoutMs !== undefined) unwrap(native.checkTime("disposeTimeoutMs", disposeTimeoutMs));
}

/** @internal Whether an acquire's answer carries all methods of a handle. */
export function isHandle(result: object): result is DisposableLockHandle {
  const handle = result as Partial<DisposableLockHandle>;
  return (
    typeof handle.release === "function" &&
    typeof handle.extend === "function" &&
    typeof handle[Symbol.asyncDispose] === "function"
  );
}

/**
 * One attempt to acquire, for a handle. Contention is `{ ok: false, reason: "locked" }`.
 * @throws LockError Internal when the backend answers a grant without the methods of a handle.
 */
export async function acquireHandle<C extends BackendCapabilities>(
  backend: LockBackend<C>,
  opts: KeyOp & { ttlMs: number },
): Promise<AsyncLock<C> | { ok: false; reason: "locked" }> {
  requireBackend(backend, "acquire");
  const result = await backend.acquire(opts);
  if (result.ok && !isHandle(result)) {
    throw new LockError(
      "Internal",
      "the backend answered a grant without release(), extend() and [Symbol.asyncDispose](); wrap it in decorateAcquireResult()",
    );
  }
  return result;
}
