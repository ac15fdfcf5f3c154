// Telemetry: an event for each operation of a backend.
import { callback, requireBackend } from "./checks.js";
import { isHandle, releasableOf, setReleasable } from "./decorate.js";
import { dispose, reasonOf, type Releasable } from "./disposal.js";
import { acquisitions, leases } from "./environment.js";
import { asError, invalid, type LockError } from "./errors.js";
import { Lease, markWith } from "./handle.js";
import { native } from "./native.js";
import { own } from "./nouns.js";
import { quietly } from "./signals.js";
import type {
  BackendCapabilities,
  DecoratedAcquireResult,
  DisposableLockHandle,
  LockBackend,
  LockEvent,
  NativeBackend,
  TelemetryOptions,
} from "./types.js";

type Handle = DisposableLockHandle & { lockId: string };

/** What stands between a backend and its caller, and hears of everything that is done to it. */
export interface TelemetryLayer {
  readonly below: object;
  /** Tells of an operation that took so long. */
  emit(type: string, durationMs: number, names: Names, outcome: Partial<LockEvent>): void;
  /** The handle with operations that are told of. */
  observed<H extends Handle>(handle: H, key: unknown): H;
}

/** Each wrapper's layer, and the methods it was made with. */
const wrapped = new WeakMap<object, { layer: TelemetryLayer; acquire: unknown; release: unknown }>();

/** @internal The layers of telemetry that a backend consists of, from the inside out; not those whose methods were replaced. */
export function layersOf(backend: object): TelemetryLayer[] {
  const layers: TelemetryLayer[] = [];
  for (let outer = backend; ; outer = layers[0].below) {
    const entry = wrapped.get(outer);
    const { acquire, release } = outer as { acquire?: unknown; release?: unknown };
    if (entry === undefined || entry.acquire !== acquire || entry.release !== release) return layers;
    layers.unshift(entry.layer);
  }
}

/** @internal The number under which the engine tells the layers of an acquisition. */
export function listenTo(layers: readonly TelemetryLayer[], key: string): number {
  const tell = (type: string, result: string, lockId: string | undefined, durationMs: number) => {
    for (const layer of layers) layer.emit(type, durationMs, { key, lockId }, outcomeOf(result));
  };
  return acquisitions.add({
    asked: (result, lockId, durationMs) => tell("acquire", result, lockId, durationMs),
    undone: (result, lockId, durationMs) => tell("release", result, lockId, durationMs),
  });
}

function outcomeOf(result: string): Pick<LockEvent, "result" | "reason" | "error"> {
  if (result === "ok") return { result };
  const isReason = result === "locked" || result === "expired" || result === "not-found";
  return { result: "fail", ...(isReason ? { reason: result } : { error: result }) };
}

export type Names = { key?: unknown; lockId?: unknown };
type Outcome = Pick<LockEvent, "result" | "reason"> & Names;

/**
 * The same backend, with an event after every operation, also of the handles that it grants. Keys and lock ids
 * appear as hashes unless `includeRaw` allows them.
 * @throws LockError InvalidArgument when `backend` is no backend or `onEvent` no function.
 */
export function withTelemetry<C extends BackendCapabilities>(
  backend: NativeBackend<C>,
  options: TelemetryOptions,
): NativeBackend<C>;
export function withTelemetry<C extends BackendCapabilities>(backend: LockBackend<C>, options: TelemetryOptions): LockBackend<C>;
export function withTelemetry<C extends BackendCapabilities>(backend: LockBackend<C>, options: TelemetryOptions): LockBackend<C> {
  requireBackend(backend, "acquire", "release", "extend", "isLocked", "lookup");
  const given = callback("onEvent", own(options, "onEvent"));
  if (given === undefined) throw invalid("onEvent must be a function; none was given");
  const onEvent = given;
  const includeRaw = own(options, "includeRaw");

  function emit(type: string, durationMs: number, names: Names, outcome: Partial<LockEvent>): void {
    quietly(() => {
      const event = { type, ...hashes(names), ...outcome } as LockEvent;
      event.durationMs = Math.round(durationMs);
      if (allowsRaw(includeRaw, event)) Object.assign(event, rawNames(names));
      return onEvent(event);
    });
  }

  /** Runs one operation on the inner backend and tells how it went. */
  async function observe<T>(type: string, names: Names, run: () => Promise<T>, judge: (answer: T) => Outcome): Promise<T> {
    const startedAt = performance.now();
    let answer: T;
    try {
      answer = await run();
    } catch (error) {
      emit(type, performance.now() - startedAt, names, { result: "fail", error: codeOf(error) });
      throw error;
    }
    const { key, lockId, ...outcome } = judge(answer);
    emit(type, performance.now() - startedAt, { key: key ?? names.key, lockId: lockId ?? names.lockId }, outcome);
    return answer;
  }

  async function acquire(opts: Parameters<LockBackend<C>["acquire"]>[0]): Promise<DecoratedAcquireResult<C>> {
    const names = namesIn(opts);
    const result = await observe(
      "acquire",
      names,
      () => backend.acquire(opts),
      (answer) => (answer?.ok ? { result: "ok", lockId: answer.lockId } : { result: "fail", reason: "locked" }),
    );
    return result?.ok && isHandle(result) ? observed(result, names.key) : result;
  }

  /** A handle that tells of its operations, too. Everything else of it stays as it is, accessors included. */
  function observed<H extends Handle>(handle: H, key: unknown): H {
    const { lockId } = handle;
    const names = { key, lockId };
    const state = stateOf(handle, lockId);
    const layer = Object.defineProperties({}, Object.getOwnPropertyDescriptors(handle)) as H;
    let disposing: Promise<void> | undefined;
    layer.release = (signal) => observe("release", names, () => handle.release(signal), judge);
    layer.extend = (ttlMs, signal) => observe("extend", names, () => handle.extend(ttlMs, signal), judge);
    layer[Symbol.asyncDispose] = () => (disposing ??= disposeOf(layer, handle, state, names));
    if (state !== undefined) setReleasable(layer, state);
    if (state instanceof Lease) markWith(layer, state);
    return layer;
  }

  async function disposeOf(
    layer: DisposableLockHandle,
    handle: DisposableLockHandle,
    state: Releasable | undefined,
    names: Names,
  ): Promise<void> {
    if (state === undefined) {
      return observe(
        "release",
        names,
        () => handle[Symbol.asyncDispose](),
        () => ({ result: "ok" }),
      );
    }
    return state.done ? undefined : dispose(() => layer.release(), state.disposal);
  }

  const release: LockBackend<C>["release"] = (opts) => observe("release", namesIn(opts), () => backend.release(opts), judge);

  const layer = {
    acquire,
    release,
    extend: (opts: Parameters<LockBackend<C>["extend"]>[0]) =>
      observe("extend", namesIn(opts), () => backend.extend(opts), judge),
    isLocked: (opts: Parameters<LockBackend<C>["isLocked"]>[0]) =>
      observe(
        "isLocked",
        namesIn(opts),
        () => backend.isLocked(opts),
        (locked) => (locked ? { result: "ok" } : { result: "fail" }),
      ),
    lookup: (opts: never) =>
      observe(
        "lookup",
        namesIn(opts),
        () => backend.lookup(opts),
        (answer) => (answer === null ? { result: "fail", reason: "not-found" } : { result: "ok" }),
      ),
    capabilities: backend.capabilities,
  } as LockBackend<C>;
  for (const name of ["close", Symbol.asyncDispose] as const) {
    const method = (backend as Partial<NativeBackend<C>>)[name];
    if (typeof method === "function") Object.assign(layer, { [name]: () => method.call(backend) });
  }
  wrapped.set(layer, { layer: { below: backend, emit, observed }, acquire, release });
  return layer;
}

function judge(answer: { ok: boolean }): Outcome {
  if (answer.ok) return { result: "ok" };
  const reason = reasonOf(answer) as LockEvent["reason"];
  return reason === undefined ? { result: "fail" } : { result: "fail", reason };
}

/** The release state behind a handle: of a native lease, or of a handle made for a JavaScript backend. */
function stateOf(handle: object, lockId: string): Releasable | undefined {
  return releasableOf(handle) ?? (leases.get(lockId) as Lease | undefined);
}

function codeOf(error: unknown): string {
  const { name, code } = asError(error) as Partial<LockError>;
  return name === "LockError" && typeof code === "string" ? code : String(name);
}

function namesIn(opts: object): Names {
  return { key: own(opts as Names, "key"), lockId: own(opts as Names, "lockId") };
}

function hashes({ key, lockId }: Names): Pick<LockEvent, "keyHash" | "lockIdHash"> {
  const keyHash = typeof key === "string" ? native.hashKey(key) : undefined;
  const lockIdHash = typeof lockId === "string" ? native.hashKey(lockId) : undefined;
  return {
    ...(typeof keyHash === "string" && { keyHash }),
    ...(typeof lockIdHash === "string" && { lockIdHash }),
  };
}

function rawNames({ key, lockId }: Names): Names {
  return { ...(key !== undefined && { key }), ...(lockId !== undefined && { lockId }) };
}

function allowsRaw(includeRaw: TelemetryOptions["includeRaw"], event: LockEvent): boolean {
  if (typeof includeRaw !== "function") return includeRaw === true;
  try {
    return includeRaw(event) === true;
  } catch {
    return false;
  }
}
