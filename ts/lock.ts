// `lock` and the functions made from it.
import { Adapter, asLockError } from "./adapter.js";
import { close, leaseOf, type Opened, openedOf } from "./backend.js";
import { callback, requireBackend } from "./checks.js";
import { dispose, type Disposal } from "./disposal.js";
import { here, leases, storeOf } from "./environment.js";
import { asError, errorOf, invalid, isFailure, type LockError } from "./errors.js";
import { handleOf, type Lease } from "./handle.js";
import type { Failure } from "./native.js";
import { acquisitionOf, BACKEND_DEFAULTS, keepOf, own } from "./nouns.js";
import { cancellable, joinSignals, refuseAborted, signalOf } from "./signals.js";
import { describe } from "./targets/target.js";
import { layersOf, listenTo, type TelemetryLayer } from "./telemetry.js";
import type {
  AcquireOk,
  AcquisitionOptions,
  AsyncLock,
  BackendCapabilities,
  HeldLock,
  LockBackend,
  LockConfig,
  LockFunction,
  NativeBackend,
  NativeLockHandle,
  OnLeaseLost,
  OnReleaseError,
} from "./types.js";

type Config = LockConfig & { acquisition?: AcquisitionOptions };

/** What a call of `lock()` says, by own properties; what Rust validates is still as it was given. */
interface Call {
  key: string;
  ttlMs: unknown;
  acquisition: unknown;
  autoExtend: unknown;
  signal: AbortSignal | undefined;
  leave: () => void;
  onReleaseError: OnReleaseError | undefined;
  onLeaseLost: OnLeaseLost | undefined;
}

function listen(lease: Lease, { onLeaseLost }: Call): void {
  if (onLeaseLost === undefined) lease.listenWhileAwaited(warnOfLoss);
  else lease.listen(onLeaseLost);
}

function read(fn: unknown, config: Config): Call {
  if (typeof fn !== "function") throw invalid(`fn must be a function; ${describe(fn)} was given`);
  const acquisition = own(config, "acquisition");
  const first = signalOf(own(config, "signal"));
  const second = typeof acquisition === "object" ? signalOf(own(acquisition, "signal")) : undefined;
  const onReleaseError = callback("onReleaseError", own(config, "onReleaseError"));
  const onLeaseLost = callback("onLeaseLost", own(config, "onLeaseLost"));
  refuseAborted(first, "Acquisition");
  refuseAborted(second, "Acquisition");
  const ttlMs = own(config, "ttlMs");
  return {
    key: own(config, "key") as string,
    ttlMs: ttlMs === undefined ? BACKEND_DEFAULTS.ttlMs : ttlMs,
    acquisition: acquisitionOf(acquisition),
    autoExtend: own(config, "autoExtend"),
    onReleaseError,
    onLeaseLost,
    ...joinSignals(first, second),
  };
}

/** The default of `onLeaseLost`: one warning, which names neither key nor lock id. */
function warnOfLoss(): void {
  process.emitWarning(
    "[SyncGuard] A lock was lost while its function ran: somebody else may hold it now. Watch handle.signal, use autoExtend or " +
      "a longer ttlMs, and give onLeaseLost to hear of it.",
    { type: "LeaseLost", code: "SYNCGUARD_LEASE_LOST" },
  );
}

/** Acquires with retries, runs `fn` and releases, on a native backend; layers of telemetry, from the inside out, hear of it. */
async function lockNative<T>(
  parts: Opened,
  fn: (handle: HeldLock) => Promise<T> | T,
  config: Config,
  layers: readonly TelemetryLayer[] = [],
): Promise<T> {
  const call = read(fn, config);
  const { key, ttlMs, acquisition, signal } = call;
  const keep = keepOf(call.autoExtend);
  const { client } = parts;
  const observer = layers.length === 0 ? null : listenTo(layers, key);
  const answer = await cancellable(signal, (cancel) => client.lock(cancel, key, ttlMs, acquisition, keep, observer));
  call.leave();
  if (isFailure(answer)) throw errorOf(answer, { key }, signal, "Acquisition");
  const lease = leaseOf(parts, answer, key, call.onReleaseError);
  listen(lease, call);
  const handle = layers.reduce((below, layer) => layer.observed(below, key), handleOf(lease));
  const dispose = layers.length === 0 ? () => lease.dispose() : handle[Symbol.asyncDispose];
  try {
    return await fn(handle);
  } finally {
    lease.lostIfPast();
    await dispose();
    lease.lostIfGone();
  }
}

/** The same on a backend whose attempts are JavaScript: the engine asks for them through an adapter. */
async function lockJavaScript<C extends BackendCapabilities, T>(
  backend: LockBackend<C>,
  fn: (handle: AsyncLock<C>) => Promise<T> | T,
  config: Config,
): Promise<T> {
  const call = read(fn, config);
  const { key, ttlMs, acquisition, signal, onReleaseError } = call;
  if (keepOf(call.autoExtend) !== null) {
    throw invalid("autoExtend works on native backends only; this backend is written in JavaScript");
  }
  const store = storeOf(backend);
  const adapter = new Adapter(backend, { key, signal, onReleaseError });
  const { slot } = adapter;
  try {
    const answer = await cancellable(signal, (cancel) => here.lockForeign(slot, store, cancel, key, ttlMs, acquisition));
    if (isFailure(answer)) throw errorFrom(adapter, answer, key, signal);
    const handle = await adapter.granted(answer.lockId);
    const disposal: Disposal = { lockId: handle.lockId, key, onReleaseError, disposeTimeoutMs: undefined };
    // A native backend's that something of the user's stands before.
    const lease = leases.get(handle.lockId) as Lease | undefined;
    if (lease !== undefined) listen(lease, call);
    try {
      return await fn(handle);
    } finally {
      lease?.lostIfPast();
      await dispose(async () => {
        const released = await here.releaseForeign(null, answer.lockId);
        // Whom this concerns gets what was thrown: see `reportReleaseError`.
        if (!isFailure(released)) return;
        const thrown = adapter.thrownFor(released);
        throw thrown === undefined ? errorOf(released, { key }) : thrown.error;
      }, disposal);
      adapter.forget(answer.lockId);
      lease?.lostIfGone();
    }
  } finally {
    call.leave();
    adapter.settled();
  }
}

/** The error of a failed acquisition: the backend's own object where it was the backend that failed with a LockError. */
function errorFrom<C extends BackendCapabilities>(
  adapter: Adapter<C>,
  failure: Failure,
  key: string,
  signal: AbortSignal | undefined,
): LockError {
  const thrown = adapter.thrownFor(failure);
  if (thrown === undefined) return errorOf(failure, { key }, signal, "Acquisition");
  return asLockError(thrown.error) ?? wrapped(thrown.error, failure, key);
}

/** What a JavaScript backend threw, whatever it was, as the one error of this package. */
function wrapped(thrown: unknown, failure: Failure, key: string): LockError {
  const error = errorOf({ ...failure, message: asError(thrown).message }, { key });
  Object.defineProperty(error.context, "cause", { value: thrown, writable: true, configurable: true });
  Object.defineProperty(error, "cause", { value: thrown, writable: true, configurable: true });
  return error;
}

/**
 * Acquires `config.key` with retries, runs `fn` with the handle, and releases in any case. What `fn` throws is what
 * the caller sees; a release that fails goes to `onReleaseError`, a lease that was lost meanwhile to `onLeaseLost`.
 * Aborting the signal ends the acquisition, never the release.
 * @throws LockError AcquisitionTimeout after the last try or `acquisition.timeoutMs`; Aborted; InvalidArgument; or
 *   the store's own error when retries do not help.
 */
export function lock<T, C extends BackendCapabilities>(
  backend: NativeBackend<C>,
  fn: (handle: AcquireOk<C> & NativeLockHandle) => Promise<T> | T,
  config: LockConfig & { acquisition?: AcquisitionOptions },
): Promise<T>;
export function lock<T, C extends BackendCapabilities>(
  backend: LockBackend<C>,
  fn: (handle: AsyncLock<C>) => Promise<T> | T,
  config: LockConfig & { acquisition?: AcquisitionOptions },
): Promise<T>;
export async function lock<T, C extends BackendCapabilities>(
  backend: LockBackend<C>,
  // biome-ignore lint/suspicious/noExplicitAny: no caller sees it, and it has to fit each overload's handle.
  fn: (handle: any) => Promise<T> | T,
  config: LockConfig & { acquisition?: AcquisitionOptions },
): Promise<T> {
  requireBackend(backend, "acquire", "release");
  const layers = layersOf(backend);
  const parts = openedOf(layers.length === 0 ? backend : layers[0].below);
  return parts === undefined ? lockJavaScript(backend, fn, config) : lockNative(parts, fn, config, layers);
}

/** @internal The function that `createLock` answers. */
export function lockFunctionOf(parts: Opened): LockFunction {
  const run = async <T>(fn: (handle: HeldLock) => Promise<T> | T, config: Config): Promise<T> => lockNative(parts, fn, config);
  const end = () => close(parts);
  return Object.assign(run, { close: end, [Symbol.asyncDispose]: end });
}

/**
 * A `lock` that is bound to a backend, for those who write one in JavaScript. `fn` gets no argument.
 * @throws LockError InvalidArgument when it is no backend.
 */
export function createAutoLock<C extends BackendCapabilities>(
  backend: LockBackend<C>,
): <T>(fn: () => Promise<T> | T, config: LockConfig & { acquisition?: AcquisitionOptions }) => Promise<T> {
  requireBackend(backend, "acquire", "release");
  return async (fn, config) => lock(backend, typeof fn === "function" ? () => fn() : fn, config);
}
