// The entry "syncguard/redis".

import { backendOf } from "./backend.js";
import { lockFunctionOf } from "./lock.js";
import { open } from "./open.js";
import { redis } from "./targets/redis.js";
import type { LockFunction, NativeBackend, NativeBackendOptions, RedisCapabilities } from "./types.js";

export type * from "./types.js";

/** Options of the Redis backend. */
export interface RedisBackendOptions extends NativeBackendOptions {
  /** What storage keys begin with. Default: "syncguard". */
  keyPrefix?: string;
  /**
   * How many replicas must have a grant, a hand-over or an extend before it counts, 0 to 100. A grant that fewer have in
   * time (half of `operationTimeoutMs`, at most 2.5 s) is taken back, and is `ServiceUnavailable`; an extend then has an
   * unknown outcome. Default: 0.
   */
  replicas?: number;
}

/** The options with their defaults. */
export interface RedisConfig {
  /** What storage keys begin with. */
  keyPrefix: string;
  /** Whether `isLocked` may delete what expired over two seconds ago. */
  cleanupInIsLocked: boolean;
}

/**
 * A Redis backend. `target`: a URL (`redis:`, `rediss:`, `redis+unix:`, `redis-sentinel:`, `rediss-sentinel:`, `redis-cluster:`,
 * `rediss-cluster:`), an object of connection facts, or a client of ioredis or node-redis, whose settings are adopted and which is never
 * used, changed or closed. Does no I/O: it connects on first use.
 * @throws LockError InvalidArgument for a target or options that make no sense, or a client's setting that can't be adopted.
 */
export function createRedisBackend(
  target: string | URL | object,
  options?: RedisBackendOptions,
): NativeBackend<RedisCapabilities> {
  return backendOf(open(redis, target, options));
}

/**
 * A function that runs another one while holding a lock in Redis. Target, options and errors are those of
 * `createRedisBackend`.
 */
export function createLock(target: string | URL | object, options?: RedisBackendOptions): LockFunction {
  return lockFunctionOf(open(redis, target, options));
}
