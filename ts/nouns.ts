// The pure part of the package: keys, lock ids, fences, liveness and the defaults. All of it is computed natively.

import { unwrap } from "./errors.js";
import { native } from "./native.js";
import { signalOf, withSignal } from "./signals.js";
import type { AcquisitionOptions, Fence, HashId } from "./types.js";

const constants = native.constants();

/** @internal Every code that a LockError may have. */
export const ERROR_CODES: ReadonlySet<unknown> = new Set(constants.ERROR_CODES);

/** The longest key, in UTF-8 bytes after Unicode normalisation: 512. */
export const MAX_KEY_LENGTH_BYTES: 512 = constants.MAX_KEY_LENGTH_BYTES;

/** For how long after its expiry a lease still counts as live, in milliseconds: 1000. */
export const TIME_TOLERANCE_MS: 1000 = constants.TIME_TOLERANCE_MS;

/** What an acquire uses where nothing else is said; times in milliseconds. */
export const BACKEND_DEFAULTS: Readonly<{ ttlMs: number }> = Object.freeze({ ...constants.BACKEND_DEFAULTS });

/** How `lock()` waits and retries where nothing else is said; times in milliseconds. */
export const LOCK_DEFAULTS: Readonly<{
  maxRetries: number;
  retryDelayMs: number;
  timeoutMs: number;
  backoff: "exponential" | "fixed";
  jitter: "equal" | "full" | "none";
}> = Object.freeze({ ...constants.LOCK_DEFAULTS });

/** The longest storage key of each store, in UTF-8 bytes. */
export const BACKEND_LIMITS: Readonly<{ REDIS: number; POSTGRES: number; FIRESTORE: number }> = Object.freeze({
  ...constants.BACKEND_LIMITS,
});

/** The bytes of each limit that keys derived from a storage key need. */
export const RESERVE_BYTES: Readonly<{ REDIS: number; POSTGRES: number; FIRESTORE: number }> = Object.freeze({
  ...constants.RESERVE_BYTES,
});

/** The fence above which no grant is made, and the one above which a warning is logged. */
export const FENCE_THRESHOLDS: Readonly<{ MAX: Fence; WARN: Fence }> = Object.freeze({ ...constants.FENCE_THRESHOLDS });

/**
 * The Unicode NFC form of a key.
 * @throws LockError InvalidArgument unless it is a string of 1 to 512 UTF-8 bytes without U+0000 and lone surrogates.
 */
export function normalizeAndValidateKey(key: string): string {
  return unwrap(native.normalizeKey(key));
}

/** @throws LockError InvalidArgument unless it is a lock id: 22 characters of base64url. */
export function validateLockId(lockId: string): void {
  unwrap(native.validateLockId(lockId));
}

/** A new lock id: 128 random bits as 22 characters of base64url. */
export function generateLockId(): string {
  return native.generateLockId();
}

/**
 * The 24 hexadecimal digits that stand for a key or lock id in logs. Equal for equal NFC forms; not cryptographic.
 * @throws LockError InvalidArgument when it is no string.
 */
export function hashKey(value: string): HashId {
  return unwrap(native.hashKey(value));
}

/**
 * The name under which a store keeps a key: `prefix:key`, or a hashed form where that with `reserveBytes` would be
 * longer than `backendLimitBytes`.
 * @throws LockError InvalidArgument for a bad key, or when the prefix alone is too long.
 */
export function makeStorageKey(prefix: string, key: string, backendLimitBytes: number, reserveBytes: number): string {
  return unwrap(native.makeStorageKey(prefix, key, backendLimitBytes, reserveBytes));
}

/** Whether a lease is live: `expiresAtMs > nowMs - toleranceMs`. */
export function isLive(expiresAtMs: number, nowMs: number, toleranceMs: number): boolean {
  return native.isLive(expiresAtMs, nowMs, toleranceMs);
}

/**
 * Milliseconds of what Redis answers to TIME (seconds and microseconds), rounded down.
 * @throws LockError InvalidArgument when they are no numbers.
 */
export function calculateRedisServerTimeMs(time: [string, string]): number {
  return unwrap(native.redisServerTimeMs(time?.[0], time?.[1]));
}

/**
 * A fence as 15 decimal digits; fractions are cut off.
 * @throws LockError InvalidArgument for a negative number and one of more than 15 digits.
 */
export function formatFence(value: bigint | number): string {
  return unwrap(native.formatFence(value));
}

/** Warns on the console that the fences of a key come near their limit. The line names the key. */
export function logFenceWarning(fence: Fence | number, key: string): void {
  const digits = (typeof fence === "number" ? formatFence(fence) : fence).replace(/^0+(?=.)/, "");
  console.warn(
    `[SyncGuard] fence=${digits} of key=${JSON.stringify(key)} is near the limit ${FENCE_THRESHOLDS.MAX}; ` +
      "move to a new key before grants fail",
  );
}

/** @internal Warns when a grant's fence is above the threshold. Both have 15 digits, so strings compare. */
export function warnOfHighFence(fence: Fence, key: string): void {
  if (fence > FENCE_THRESHOLDS.WARN) logFenceWarning(fence, key);
}

/** Waits; a negative time counts as 0. The timer keeps the process alive. */
export async function delay(ms: number): Promise<void> {
  const longest = 2 ** 31 - 1;
  for (let left = ms; ; left -= longest) {
    await new Promise<void>((resolve) => setTimeout(resolve, Math.min(left, longest)));
    if (!(left > longest)) return;
  }
}

/**
 * The TTL that a backend should use.
 * @throws LockError InvalidArgument when one was given that is no time: an integer from 1 ms to 100 years.
 */
export function mergeBackendConfig(config: { ttlMs?: number }): { ttlMs: number } {
  const ttlMs = own(config, "ttlMs") ?? BACKEND_DEFAULTS.ttlMs;
  unwrap(native.checkTime("ttlMs", ttlMs));
  return { ttlMs };
}

/**
 * The acquisition options with the defaults filled in; the signal is passed on.
 * @throws LockError InvalidArgument for values that `lock()` would refuse.
 */
export function mergeAcquisitionConfig(
  options?: AcquisitionOptions,
): Required<Omit<AcquisitionOptions, "signal" | "wait">> & { signal?: AbortSignal } {
  const { wait: _, ...merged } = unwrap(native.policy(acquisitionOf(options)));
  return withSignal(merged, signalOf(own(options, "signal")));
}

/** @internal A property of its own, so that nothing comes in through a prototype. */
export function own<T extends object, K extends keyof T>(object: T | null | undefined, name: K): T[K] | undefined {
  return object !== undefined && object !== null && Object.hasOwn(object, name) ? object[name] : undefined;
}

const ACQUISITION = ["timeoutMs", "maxRetries", "retryDelayMs", "backoff", "jitter", "wait"] as const;
const KEEP = ["intervalMs", "maxHoldMs", "stallMs"] as const;

/** @internal What the engine needs of acquisition options, by own properties; what is no object is left for it to refuse. */
export function acquisitionOf(options: unknown): unknown {
  return snapshot(options, ACQUISITION);
}

/** @internal The same for `autoExtend`; `null` where nothing is to be kept. */
export function keepOf(autoExtend: unknown): unknown {
  return autoExtend === false || autoExtend === undefined ? null : snapshot(autoExtend, KEEP);
}

function snapshot(given: unknown, names: readonly string[]): unknown {
  if (typeof given !== "object" || given === null || Array.isArray(given)) return given;
  const copy: Record<string, unknown> = { __proto__: null } as never;
  for (const name of names) {
    const value = Object.hasOwn(given, name) ? (given as Record<string, unknown>)[name] : undefined;
    if (value !== undefined) copy[name] = value;
  }
  return copy;
}
