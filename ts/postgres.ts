// The entry "syncguard/postgres".

import { backendOf } from "./backend.js";
import { lockFunctionOf } from "./lock.js";
import { open, setup } from "./open.js";
import { postgres } from "./targets/postgres.js";
import type { LockFunction, NativeBackend, NativeBackendOptions, PostgresCapabilities } from "./types.js";

export type * from "./types.js";

/** Options of the PostgreSQL backend. Names are plain SQL identifiers. */
export interface PostgresBackendOptions extends NativeBackendOptions {
  /** The table of leases. Default: "syncguard_locks". */
  tableName?: string;
  /** The table of fence counters. Default: "syncguard_fence_counters". */
  fenceTableName?: string;
  /** The schema of both. Default: the first one of the connection's search path. */
  schema?: string;
  /** How many connections at most. Default: 4. */
  poolSize?: number;
  /** Whether a pooler in transaction mode is in between: no prepared statements, no LISTEN. Default: found out. */
  pgbouncer?: boolean;
}

/** The options with their defaults. */
export interface PostgresConfig {
  /** The table of leases. */
  tableName: string;
  /** The table of fence counters. */
  fenceTableName: string;
  /** Whether `isLocked` may delete what expired over two seconds ago. */
  cleanupInIsLocked: boolean;
}

/**
 * A PostgreSQL backend. `target`: a URL (`postgres:`, `postgresql:`), an object of connection facts, or a client of
 * postgres.js or pg (`Pool` or `Client`), whose settings are adopted and which is never used, changed or closed.
 * Does no I/O: it connects on first use. The tables must exist: see `setupSchema`.
 * @throws LockError InvalidArgument for a target or options that make no sense, or a client's setting that can't be adopted.
 */
export function createPostgresBackend(
  target: string | URL | object,
  options?: PostgresBackendOptions,
): NativeBackend<PostgresCapabilities> {
  return backendOf(open(postgres, target, options));
}

/**
 * A function that runs another one while holding a lock in PostgreSQL. Target, options and errors are those of
 * `createPostgresBackend`.
 */
export function createLock(target: string | URL | object, options?: PostgresBackendOptions): LockFunction {
  return lockFunctionOf(open(postgres, target, options));
}

/**
 * Makes the tables and indexes that are missing. Idempotent, and safe when many processes call it at once.
 * @throws LockError InvalidArgument for bad names; AuthFailed, ServiceUnavailable, NetworkTimeout from the database.
 */
export async function setupSchema(
  target: string | URL | object,
  options?: Pick<PostgresBackendOptions, "tableName" | "fenceTableName" | "schema">,
): Promise<void> {
  await setup(postgres, target, options);
}
