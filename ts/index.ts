// The entry "syncguard": every store by one function, and all that is needed around it.

import { backendOf } from "./backend.js";
import { lockFunctionOf } from "./lock.js";
import { openAny } from "./open.js";
import type {
  BackendCapabilities,
  BackendTarget,
  FileCapabilities,
  FirestoreCapabilities,
  LockFunction,
  MemoryCapabilities,
  NativeBackend,
  PostgresCapabilities,
  RedisCapabilities,
} from "./types.js";

export * from "./shared.js";

/**
 * A backend for a URL, an object of connection facts, or an existing client, whose settings are adopted and which
 * is never used, changed or closed. Without a target: `SYNCGUARD_URL`, else lock files in `SYNCGUARD_DIR` or below
 * the home of this user's account. `memory:` and `memory:NAME` are stores of this process alone, for tests, with the
 * semantics of the others. Connects and checks before it resolves.
 * @throws LockError InvalidArgument for a target or options that make no sense; AuthFailed, ServiceUnavailable,
 *   NetworkTimeout when the store can't be used.
 */
export function createBackend(
  target:
    | `redis:${string}`
    | `rediss:${string}`
    | `redis+unix:${string}`
    | `redis-sentinel:${string}`
    | `rediss-sentinel:${string}`
    | `redis-cluster:${string}`
    | `rediss-cluster:${string}`,
  options?: object,
): Promise<NativeBackend<RedisCapabilities>>;
export function createBackend(
  target: `postgres:${string}` | `postgresql:${string}`,
  options?: object,
): Promise<NativeBackend<PostgresCapabilities>>;
export function createBackend(target: `firestore:${string}`, options?: object): Promise<NativeBackend<FirestoreCapabilities>>;
export function createBackend(target: `file:${string}`, options?: object): Promise<NativeBackend<FileCapabilities>>;
export function createBackend(target: `memory:${string}`, options?: object): Promise<NativeBackend<MemoryCapabilities>>;
export function createBackend(target?: BackendTarget, options?: object): Promise<NativeBackend<BackendCapabilities>>;
export async function createBackend(target?: BackendTarget, options?: object): Promise<NativeBackend<never>> {
  return backendOf(await openAny(target, options));
}

/**
 * A function that runs another one while holding a lock. The target is that of `createBackend`.
 * @throws LockError as `createBackend`.
 */
export async function createLock(target?: BackendTarget, options?: object): Promise<LockFunction> {
  return lockFunctionOf(await openAny(target, options));
}
