// Leases as lookups show them: without secrets, unless asked.
import { requireBackend } from "./checks.js";
import type { LeaseRecord } from "./native.js";
import { hashKey, own } from "./nouns.js";
import { withSignal } from "./signals.js";
import type { AcquireOk, AcquireResult, BackendCapabilities, Fence, LockBackend, LockInfo, LockInfoDebug } from "./types.js";

const RAW = Symbol.for("syncguard.rawData");

type Raw = { key: string; lockId: string };

// What native lookups found, for getByKeyRaw and getByIdRaw only: not even printing hidden properties shows it.
const found = new WeakMap<object, Raw>();

/** @internal What a native lookup answers. */
export function lockInfoOf<C extends BackendCapabilities>(record: LeaseRecord, capabilities: C): LockInfo<C> {
  const info = sanitizeLockInfo(record, capabilities);
  found.set(info, { key: record.key, lockId: record.lockId });
  return info;
}

/** A stored lease without its secrets: hashes in place of key and lock id, `fence` where the backend has fences. */
export function sanitizeLockInfo<C extends BackendCapabilities>(
  raw: { key: string; lockId: string; expiresAtMs: number; acquiredAtMs: number; fence?: string },
  capabilities: C,
): LockInfo<C> {
  const info = {
    keyHash: hashKey(raw.key),
    lockIdHash: hashKey(raw.lockId),
    expiresAtMs: raw.expiresAtMs,
    acquiredAtMs: raw.acquiredAtMs,
  };
  return (capabilities.supportsFencing ? { ...info, fence: raw.fence } : info) as LockInfo<C>;
}

/**
 * For backends written in JavaScript: keeps key and lock id with a lookup's answer, where `getByKeyRaw` and
 * `getByIdRaw` find them and JSON does not.
 */
export function attachRawData<C extends BackendCapabilities>(
  info: LockInfo<C>,
  raw: { key: string; lockId: string },
): LockInfo<C> {
  return Object.defineProperty(info, RAW, {
    value: { key: raw.key, lockId: raw.lockId },
    writable: true,
    configurable: true,
  });
}

function rawOf(info: object): Partial<Raw> | undefined {
  return found.get(info) ?? (info as Record<symbol, Partial<Raw> | undefined>)[RAW];
}

/** The live lease of a key, or `null`. @throws LockError when the store could not be asked. */
export async function getByKey<C extends BackendCapabilities>(
  backend: LockBackend<C>,
  key: string,
  opts?: { signal?: AbortSignal },
): Promise<LockInfo<C> | null> {
  requireBackend(backend, "lookup");
  return backend.lookup(withSignal({ key }, own(opts, "signal")));
}

/** The live lease of a lock id, or `null`. @throws LockError when the store could not be asked. */
export async function getById<C extends BackendCapabilities>(
  backend: LockBackend<C>,
  lockId: string,
  opts?: { signal?: AbortSignal },
): Promise<LockInfo<C> | null> {
  requireBackend(backend, "lookup");
  return backend.lookup(withSignal({ lockId }, own(opts, "signal")));
}

/**
 * As `getByKey`, with the key and the lock id, which is the right to release: for debugging, not for logs.
 * For a JavaScript backend that attached no raw data the lock id is a text that says so.
 */
export async function getByKeyRaw<C extends BackendCapabilities>(
  backend: LockBackend<C>,
  key: string,
  opts?: { signal?: AbortSignal },
): Promise<LockInfoDebug<C> | null> {
  const info = await getByKey(backend, key, opts);
  if (info === null) return null;
  const raw = rawOf(info);
  return { ...info, key: raw?.key ?? key, lockId: raw?.lockId ?? "[backend does not provide raw lockId]" };
}

/**
 * As `getById`, with the key and the lock id, which is the right to release: for debugging, not for logs.
 * For a JavaScript backend that attached no raw data the key is a text that says so.
 */
export async function getByIdRaw<C extends BackendCapabilities>(
  backend: LockBackend<C>,
  lockId: string,
  opts?: { signal?: AbortSignal },
): Promise<LockInfoDebug<C> | null> {
  const info = await getById(backend, lockId, opts);
  if (info === null) return null;
  const raw = rawOf(info);
  return { ...info, key: raw?.key ?? "[backend does not provide raw key]", lockId: raw?.lockId ?? lockId };
}

/**
 * Whether a lock id holds a live lease. For diagnosis only: by the time it answers, that may have changed.
 * @throws LockError when the store could not be asked.
 */
export async function owns<C extends BackendCapabilities>(backend: LockBackend<C>, lockId: string): Promise<boolean> {
  return (await getById(backend, lockId)) !== null;
}

/** Whether an acquire was granted with a fence; narrows its type. */
export function hasFence<C extends BackendCapabilities>(result: AcquireResult<C>): result is AcquireOk<C> & { fence: Fence } {
  const { fence } = result as { fence?: unknown };
  return result.ok && typeof fence === "string" && fence !== "";
}
