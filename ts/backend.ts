// Backends over an opened native client.
import { callback } from "./checks.js";
import { type Disposal, refusal } from "./disposal.js";
import { leases, passwords } from "./environment.js";
import { errorOf, isFailure } from "./errors.js";
import { handleOf, Lease, refusedHandle } from "./handle.js";
import { lockInfoOf } from "./lookup.js";
import type { Client, Grant } from "./native.js";
import { keepOf, own, warnOfHighFence } from "./nouns.js";
import { cancellable, refuseAborted, signalOf } from "./signals.js";
import type {
  BackendCapabilities,
  ExtendResult,
  NativeAcquireResult,
  NativeBackend,
  OnLeaseLost,
  OnReleaseError,
  ReleaseResult,
} from "./types.js";

/** An open native backend, and what TypeScript keeps for its handles. */
export interface Opened {
  readonly client: Client;
  readonly onReleaseError: OnReleaseError | undefined;
  readonly disposeTimeoutMs: number | undefined;
  readonly passwordSlot: number | undefined;
}

const opened = new WeakMap<object, { parts: Opened; acquire: unknown; release: unknown }>();

/** What stands behind a native backend; nothing once its methods were replaced, since those must then be called. */
export function openedOf(backend: object): Opened | undefined {
  const entry = opened.get(backend);
  const { acquire, release } = backend as { acquire?: unknown; release?: unknown };
  return entry !== undefined && entry.acquire === acquire && entry.release === release ? entry.parts : undefined;
}

/** The lease of a grant, registered with this environment. */
export function leaseOf(parts: Opened, grant: Grant, key: string, onReleaseError?: OnReleaseError): Lease {
  warnOfHighFence(grant.fence, key);
  const disposal: Disposal = {
    lockId: grant.lockId,
    key,
    onReleaseError: onReleaseError ?? parts.onReleaseError,
    disposeTimeoutMs: parts.disposeTimeoutMs,
  };
  return new Lease(parts.client, grant, disposal);
}

/** Ends the connections of a native backend. */
export async function close(parts: Opened): Promise<void> {
  const answer = await parts.client.close();
  if (parts.passwordSlot !== undefined) passwords.remove(parts.passwordSlot);
  if (isFailure(answer)) throw errorOf(answer);
}

/** The backend object over an open native client. */
export function backendOf<C extends BackendCapabilities>(parts: Opened): NativeBackend<C> {
  const { client } = parts;
  const { backend: name, supportsFencing, timeAuthority } = client.info;
  const capabilities = Object.freeze({ backend: name, supportsFencing, timeAuthority }) as unknown as Readonly<C>;

  // Own properties only, each read where it is used: this is the hot path.
  async function acquire(opts: object): Promise<NativeAcquireResult<C>> {
    const given = (opts ?? {}) as Record<string, unknown>;
    const key = Object.hasOwn(given, "key") ? given.key : undefined;
    const ttlMs = Object.hasOwn(given, "ttlMs") ? given.ttlMs : undefined;
    const signal = Object.hasOwn(given, "signal") ? signalOf(given.signal) : undefined;
    const keep = Object.hasOwn(given, "autoExtend") ? keepOf(given.autoExtend) : null;
    const onLeaseLost = Object.hasOwn(given, "onLeaseLost") ? callback("onLeaseLost", given.onLeaseLost) : undefined;
    refuseAborted(signal, "Acquisition");
    const answer = await cancellable(signal, (cancel) => client.acquire(cancel, key, ttlMs, keep));
    if (isFailure(answer)) throw errorOf(answer, { key }, signal, "Acquisition");
    if (!answer.ok) return refusedHandle();
    const lease = leaseOf(parts, answer, key as string);
    if (onLeaseLost !== undefined) {
      lease.listen(onLeaseLost as OnLeaseLost);
      lease.lostIfPast();
    }
    return handleOf(lease) as unknown as NativeAcquireResult<C>;
  }

  async function release(opts: object): Promise<ReleaseResult> {
    const lockId = own(opts as { lockId?: unknown }, "lockId");
    const signal = signalOf(own(opts as { signal?: unknown }, "signal"));
    refuseAborted(signal);
    // A handle's state belongs to its lock id: the release is the handle's own.
    const lease = leaseHere(lockId);
    if (lease !== undefined) return lease.release(signal);
    const answer = await cancellable(signal, (cancel) => client.release(cancel, lockId));
    if (isFailure(answer)) throw errorOf(answer, { lockId }, signal, "Operation");
    return answer.ok ? { ok: true } : refusal(answer.reason);
  }

  async function extend(opts: object): Promise<ExtendResult> {
    const lockId = own(opts as { lockId?: unknown }, "lockId");
    const ttlMs = own(opts as { ttlMs?: unknown }, "ttlMs");
    const signal = signalOf(own(opts as { signal?: unknown }, "signal"));
    refuseAborted(signal);
    const lease = leaseHere(lockId);
    if (lease !== undefined) return lease.extend(ttlMs, signal);
    const answer = await cancellable(signal, (cancel) => client.extend(cancel, lockId, ttlMs, false));
    if (isFailure(answer)) throw errorOf(answer, { lockId }, signal, "Operation");
    return answer.ok ? { ok: true, expiresAtMs: answer.expiresAtMs } : refusal(answer.reason);
  }

  async function isLocked(opts: object): Promise<boolean> {
    const key = own(opts as { key?: unknown }, "key");
    const signal = signalOf(own(opts as { signal?: unknown }, "signal"));
    refuseAborted(signal);
    const answer = await cancellable(signal, (cancel) => client.isLocked(cancel, key));
    if (isFailure(answer)) throw errorOf(answer, { key }, signal, "Operation");
    return answer;
  }

  async function lookup(opts: object) {
    const key = own(opts as { key?: unknown }, "key");
    const lockId = own(opts as { lockId?: unknown }, "lockId");
    const signal = signalOf(own(opts as { signal?: unknown }, "signal"));
    refuseAborted(signal);
    const by = key === undefined && lockId !== undefined ? "lockId" : "key";
    const value = by === "key" ? key : lockId;
    const answer = await cancellable(signal, (cancel) => client.lookup(cancel, by, value));
    if (isFailure(answer)) throw errorOf(answer, { key, lockId }, signal, "Operation");
    return answer === null ? null : lockInfoOf(answer, capabilities);
  }

  /** The lease that this backend granted under a lock id, if its handle lives. */
  function leaseHere(lockId: unknown): Lease | undefined {
    const lease = leases.get(lockId as string) as Lease | undefined;
    return lease?.client === client ? lease : undefined;
  }

  const end = () => close(parts);
  const backend = {
    acquire,
    release,
    extend,
    isLocked,
    lookup,
    capabilities,
    close: end,
    [Symbol.asyncDispose]: end,
  } as unknown as NativeBackend<C>;
  opened.set(backend, { parts, acquire, release });
  return backend;
}
