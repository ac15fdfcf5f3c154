// What the types promise, as users' code meets them. Checked by `npm run check:ts`; nothing here runs.
import { expectTypeOf } from "expect-type";
import * as root from "syncguard";
import * as common from "syncguard/common";
import { createFileBackend, type FileBackendOptions, type FileConfig } from "syncguard/file";
import {
  createFirestoreBackend,
  createLock as createFirestoreLock,
  type FirestoreBackendOptions,
  type FirestoreConfig,
  type LockDocument,
} from "syncguard/firestore";
import { createPostgresBackend, setupSchema, type PostgresBackendOptions, type PostgresConfig } from "syncguard/postgres";
import { createLock, createRedisBackend, type RedisBackendOptions, type RedisConfig } from "syncguard/redis";
import type {
  AcquireOk,
  AcquireResult,
  AsyncLock,
  BackendCapabilities,
  DecoratedAcquireResult,
  Fence,
  FileCapabilities,
  FirestoreCapabilities,
  LockBackend,
  LockFunction,
  MemoryCapabilities,
  LockInfo,
  LockInfoDebug,
  NativeBackend,
  NativeLockHandle,
  PostgresCapabilities,
  RedisCapabilities,
} from "syncguard";

// --- grants narrow, and a fence is there exactly where the backend has fences
declare const redis: NativeBackend<RedisCapabilities>;
type Unfenced = { supportsFencing: false; timeAuthority: "client" };
declare const unfenced: LockBackend<Unfenced>;

export async function grants() {
  const result = await redis.acquire({ key: "k", ttlMs: 1000 });
  // @ts-expect-error a refused acquire has no fence
  result.fence;
  if (result.ok) {
    expectTypeOf(result.fence).toEqualTypeOf<Fence>();
    expectTypeOf(result.lockId).toBeString();
    expectTypeOf(result.signal).toEqualTypeOf<AbortSignal>();
  } else {
    expectTypeOf(result.reason).toEqualTypeOf<"locked">();
    expectTypeOf(result.isValid()).toBeBoolean();
    // @ts-expect-error nor a lock id
    result.lockId;
  }

  const plain = await unfenced.acquire({ key: "k", ttlMs: 1000 });
  if (plain.ok) {
    expectTypeOf(plain.expiresAtMs).toBeNumber();
    // @ts-expect-error this backend has no fences
    plain.fence;
    // @ts-expect-error and no native handles
    plain.signal;
  }

  await using held = await redis.acquire({ key: "k", ttlMs: 1000, autoExtend: true, onLeaseLost: (error) => error.code });
  expectTypeOf(held.release()).resolves.toEqualTypeOf<{ ok: true } | { ok: false }>();
  const extended = await held.extend(1000);
  if (extended.ok) expectTypeOf(extended.expiresAtMs).toBeNumber();
}

expectTypeOf<AcquireOk<RedisCapabilities>>().toHaveProperty("fence");
expectTypeOf<AcquireOk<Unfenced>>().not.toHaveProperty("fence");
expectTypeOf<LockInfo<RedisCapabilities>>().toHaveProperty("fence");
expectTypeOf<LockInfo<Unfenced>>().not.toHaveProperty("fence");
expectTypeOf<LockInfo<RedisCapabilities>>().not.toHaveProperty("lockId");
expectTypeOf<LockInfoDebug<RedisCapabilities>>().toHaveProperty("lockId");
expectTypeOf<AsyncLock<RedisCapabilities>>().toMatchTypeOf<AcquireResult<RedisCapabilities>>();

export function narrows(result: AcquireResult<BackendCapabilities>) {
  if (root.hasFence(result)) expectTypeOf(result.fence).toEqualTypeOf<Fence>();
}

// --- creators
expectTypeOf(createRedisBackend("redis://h")).toEqualTypeOf<NativeBackend<RedisCapabilities>>();
expectTypeOf(createRedisBackend({ host: "h" }, { keyPrefix: "p", operationTimeoutMs: 1 })).toEqualTypeOf<
  NativeBackend<RedisCapabilities>
>();
expectTypeOf(createFirestoreBackend("firestore://p", { collection: "c" })).toEqualTypeOf<NativeBackend<FirestoreCapabilities>>();
expectTypeOf(createFirestoreLock("firestore://p")).toEqualTypeOf<root.LockFunction>();
expectTypeOf<keyof LockDocument>().toEqualTypeOf<"lockId" | "expiresAtMs" | "acquiredAtMs" | "key" | "fence">();
expectTypeOf<FirestoreBackendOptions["fenceCollection"]>().toEqualTypeOf<string | undefined>();
expectTypeOf<FirestoreConfig["collection"]>().toBeString();
expectTypeOf(createPostgresBackend("postgres://h")).toEqualTypeOf<NativeBackend<PostgresCapabilities>>();
expectTypeOf(createFileBackend("/var/lock/mine")).toEqualTypeOf<NativeBackend<FileCapabilities>>();
expectTypeOf(createLock("redis://h")).toEqualTypeOf<LockFunction>();
expectTypeOf(setupSchema("postgres://h", { tableName: "t" })).resolves.toBeVoid();
expectTypeOf(root.createBackend("rediss://h")).resolves.toEqualTypeOf<NativeBackend<RedisCapabilities>>();
expectTypeOf(root.createBackend("firestore://p")).resolves.toEqualTypeOf<NativeBackend<FirestoreCapabilities>>();
expectTypeOf(root.createBackend("postgresql://h")).resolves.toEqualTypeOf<NativeBackend<PostgresCapabilities>>();
expectTypeOf(root.createBackend("memory:")).resolves.toEqualTypeOf<NativeBackend<MemoryCapabilities>>();
expectTypeOf(root.createBackend("file:/x")).resolves.toEqualTypeOf<NativeBackend<FileCapabilities>>();
expectTypeOf(root.createBackend()).resolves.toEqualTypeOf<NativeBackend<BackendCapabilities>>();
expectTypeOf(root.createBackend("redis://h" as string)).resolves.toEqualTypeOf<NativeBackend<BackendCapabilities>>();
expectTypeOf(root.createLock()).resolves.toEqualTypeOf<LockFunction>();
// @ts-expect-error an unknown option
createRedisBackend("redis://h", { keyprefix: "p" });
// @ts-expect-error a target is needed
createRedisBackend();
// @ts-expect-error what may happen at an owner's death
createFileBackend("/d", { ownerDeath: "ignore" });

expectTypeOf<RedisBackendOptions>().toHaveProperty("cleanupInIsLocked");
expectTypeOf<PostgresBackendOptions>().toHaveProperty("poolSize");
expectTypeOf<FileBackendOptions>().toHaveProperty("ownerDeath");
expectTypeOf<RedisConfig>().toHaveProperty("keyPrefix");
expectTypeOf<PostgresConfig>().toHaveProperty("fenceTableName");
expectTypeOf<FileConfig>().toHaveProperty("ownerDeath");

// --- lock
export async function locks(lockFunction: LockFunction) {
  const config = { key: "k", acquisition: { timeoutMs: 1000, wait: "poll" as const } };
  expectTypeOf(root.lock(redis, (handle) => handle.fence.length, config)).resolves.toBeNumber();
  expectTypeOf(root.lock(redis, (handle) => handle.signal.aborted, config)).resolves.toBeBoolean();
  expectTypeOf(root.lock(unfenced, async () => "x", { key: "k" })).resolves.toBeString();
  expectTypeOf(
    root.lock(root.withTelemetry(unfenced, { onEvent() {} }), (handle) => handle.lockId, { key: "k" }),
  ).resolves.toBeString();
  expectTypeOf(lockFunction((handle) => handle.fence, { key: "k" })).resolves.toBeString();
  expectTypeOf(
    lockFunction((handle: NativeLockHandle & AcquireOk<BackendCapabilities>) => handle.lockId, { key: "k" }),
  ).resolves.toBeString();
  expectTypeOf(lockFunction.close()).resolves.toBeVoid();
  // @ts-expect-error the key is needed
  await lockFunction(() => {}, {});
  // @ts-expect-error no such backoff
  await lockFunction(() => {}, { key: "k", acquisition: { backoff: "linear" } });
  await using closing = lockFunction;
  void closing;
}

// --- telemetry keeps what it wraps
expectTypeOf(root.withTelemetry(redis, { onEvent: (event) => event.type })).toEqualTypeOf<NativeBackend<RedisCapabilities>>();
expectTypeOf(root.withTelemetry(unfenced, { onEvent() {}, includeRaw: () => true })).toEqualTypeOf<LockBackend<Unfenced>>();
expectTypeOf(redis).toMatchTypeOf<LockBackend<RedisCapabilities>>();

// --- a backend in JavaScript
export const own: LockBackend<Unfenced> = {
  capabilities: { supportsFencing: false, timeAuthority: "client" },
  acquire: async ({ key }) => common.decorateAcquireResult(own, { ok: false, reason: "locked" }, key),
  release: async () => ({ ok: false }),
  extend: async ({ ttlMs }) => ({ ok: true, expiresAtMs: ttlMs }),
  isLocked: async () => false,
  lookup: async () => null,
};
expectTypeOf(common.createAutoLock(own)).parameter(0).parameters.toEqualTypeOf<[]>();
expectTypeOf(common.createDisposableHandle<RedisCapabilities>(redis, {} as AcquireOk<RedisCapabilities>, "k")).toEqualTypeOf<
  AsyncLock<RedisCapabilities>
>();
expectTypeOf(common.acquireHandle(redis, { key: "k", ttlMs: 1 })).resolves.toEqualTypeOf<
  AsyncLock<RedisCapabilities> | { ok: false; reason: "locked" }
>();
expectTypeOf<DecoratedAcquireResult<Unfenced>>().toHaveProperty("release");
expectTypeOf(common.mergeAcquisitionConfig()).toEqualTypeOf<
  Required<Omit<root.AcquisitionOptions, "signal" | "wait">> & { signal?: AbortSignal }
>();
expectTypeOf(common.mergeBackendConfig({})).toEqualTypeOf<{ ttlMs: number }>();
expectTypeOf(common.formatFence).parameter(0).toEqualTypeOf<bigint | number>();

// --- errors and constants
const error = new root.LockError("Internal", "what", { retryable: true, outcome: "unknown", cause: 1 });
expectTypeOf(error).toMatchTypeOf<Error>();
expectTypeOf(error.context?.outcome).toEqualTypeOf<"not-applied" | "unknown" | undefined>();
// @ts-expect-error no such code
new root.LockError("Oops");
// The one class, whichever entry it comes from.
expectTypeOf<InstanceType<typeof common.LockError>>().toEqualTypeOf<root.LockError>();
expectTypeOf(root.MAX_KEY_LENGTH_BYTES).toEqualTypeOf<512>();
expectTypeOf(root.LOCK_DEFAULTS.backoff).toEqualTypeOf<"exponential" | "fixed">();
expectTypeOf(root.calculateRedisServerTimeMs).parameter(0).toEqualTypeOf<[string, string]>();
