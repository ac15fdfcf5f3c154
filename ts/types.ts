/// <reference lib="esnext.disposable" preserve="true" />
// The shapes that users see. Every `…Ms` is an integer number of milliseconds; times of day are Unix milliseconds.

import type { LockError } from "./errors.js";

/** What a backend can do. */
export interface BackendCapabilities {
  /** Whether every grant carries a fencing token. */
  supportsFencing: boolean;
  /** Whose clock decides whether a lease is live: the store's server, or this machine. */
  timeAuthority: "server" | "client";
}

/** What the Redis backend can do. */
export interface RedisCapabilities extends BackendCapabilities {
  /** Which store it is. */
  backend: "redis";
  supportsFencing: true;
  timeAuthority: "server";
}

/** What the PostgreSQL backend can do. */
export interface PostgresCapabilities extends BackendCapabilities {
  /** Which store it is. */
  backend: "postgres";
  supportsFencing: true;
  timeAuthority: "server";
}

/** What the Firestore backend can do. */
export interface FirestoreCapabilities extends BackendCapabilities {
  /** Which store it is. */
  backend: "firestore";
  supportsFencing: true;
  timeAuthority: "client";
}

/** What the file backend can do; its server is the kernel's boot clock. */
export interface FileCapabilities extends BackendCapabilities {
  /** Which store it is. */
  backend: "file";
  supportsFencing: true;
  timeAuthority: "server";
}

/** What a store in this process's memory can do. */
export interface MemoryCapabilities extends BackendCapabilities {
  /** Which store it is. */
  backend: "memory";
  supportsFencing: true;
  timeAuthority: "server";
}

/**
 * A fencing token: 15 decimal digits, zero-padded, so that comparing strings orders grants. Hand it to the
 * resource that the lock protects, and let that refuse a lower one than it has seen.
 */
export type Fence = string;

/** A key or lock id as 24 hexadecimal digits, for logs and metrics. Not cryptographic. */
export type HashId = string;

/** An operation on a key. */
export type KeyOp = Readonly<{ key: string; signal?: AbortSignal }>;

/** An operation by lock id. */
export type LockOp = Readonly<{ lockId: string; signal?: AbortSignal }>;

/** Look up who holds a key. */
export type KeyLookup = { key: string; signal?: AbortSignal };

/** Look up what a lock id holds. */
export type OwnershipLookup = { lockId: string; signal?: AbortSignal };

/**
 * A granted acquire: the lock id is the right to release and extend, so treat it as a secret. `expiresAtMs` is in Unix
 * milliseconds by the store's clock.
 */
export type AcquireOk<C> = { ok: true; lockId: string; expiresAtMs: number } & (C extends {
  supportsFencing: true;
}
  ? { fence: Fence }
  : // biome-ignore lint/complexity/noBannedTypes: nothing more, and `object` or a record would show in the public types.
    {});

/** The answer to one attempt to take a lock. */
export type AcquireResult<C> = AcquireOk<C> | { ok: false; reason: "locked" };

/** Whether the lease was released. `{ ok: false }`: it was absent, expired or somebody else's. */
export type ReleaseResult = { ok: true } | { ok: false };

/** Whether the lease was extended, and until when. `{ ok: false }`: it was absent, expired or somebody else's. */
export type ExtendResult = { ok: true; expiresAtMs: number } | { ok: false };

/** What can be done with a lease. */
export interface DisposableLockHandle {
  /**
   * Ends the lease. From this call on `isValid()` is false. A second call answers `{ ok: false }` without I/O,
   * unless the first one failed with an error: then it tries again.
   * @throws LockError when the store could not be asked; `outcome` tells whether it may have been done.
   */
  release(signal?: AbortSignal): Promise<ReleaseResult>;
  /**
   * Sets the expiry to now + `ttlMs` by the store's clock; it never adds and never revives a lost lease.
   * After a release or a loss it answers `{ ok: false }` without I/O.
   * @throws LockError when the store could not be asked; the earlier deadline then stays.
   */
  extend(ttlMs: number, signal?: AbortSignal): Promise<ExtendResult>;
  /**
   * Releases if that has not been done, waiting for a release in flight. Idempotent; never throws: errors go to
   * `onReleaseError`.
   */
  [Symbol.asyncDispose](): Promise<void>;
}

/** The handle of a native backend: it knows by itself when its lease is lost. */
export interface NativeLockHandle extends DisposableLockHandle {
  /** Aborts with a `LockError` `LeaseLost` when the lease is lost or its local deadline passes; never because of a release. */
  readonly signal: AbortSignal;
  /** Whether the lease is still held, by the local deadline. No I/O; never late. */
  isValid(): boolean;
  /** Milliseconds until the local deadline, 0 when there is no lease any more. No I/O. */
  remainingMs(): number;
}

/** A granted acquire with its methods; works with `await using`. */
export type AsyncLock<C> = AcquireOk<C> & DisposableLockHandle;

/** The answer to an acquire; a refused one has the same methods, which do nothing. */
export type DecoratedAcquireResult<C> = AsyncLock<C> | ({ ok: false; reason: "locked" } & DisposableLockHandle);

/** The answer to an acquire on a native backend. */
export type NativeAcquireResult<C> = (AcquireOk<C> & NativeLockHandle) | ({ ok: false; reason: "locked" } & NativeLockHandle);

/** A lease as `lookup` tells it: hashes in place of the key and the lock id; times in Unix milliseconds by the store's clock. */
export type LockInfo<C> = {
  keyHash: HashId;
  lockIdHash: HashId;
  expiresAtMs: number;
  acquiredAtMs: number;
  // biome-ignore lint/complexity/noBannedTypes: as above.
} & (C extends { supportsFencing: true } ? { fence: Fence } : {});

/** A lease with its key and lock id, which is a secret. */
export type LockInfoDebug<C> = LockInfo<C> & { key: string; lockId: string };

/**
 * One store; every method is one attempt and rejects with a `LockError`: `InvalidArgument` before any I/O; `NetworkTimeout`,
 * `ServiceUnavailable`, `AuthFailed`, `RateLimited` or `Internal` from the store; `Aborted` by the caller's signal.
 * `context.outcome` says whether the request may have been applied.
 */
export interface LockBackend<C extends BackendCapabilities = BackendCapabilities> {
  /** Takes the key if it is free, for `ttlMs` milliseconds. Contention is `{ ok: false, reason: "locked" }`, no error. */
  acquire: (opts: KeyOp & { ttlMs: number }) => Promise<DecoratedAcquireResult<C>>;
  /** Ends the lease of a lock id. `{ ok: false }`: it was absent, expired or somebody else's. */
  release: (opts: LockOp) => Promise<ReleaseResult>;
  /** Sets the expiry of a lock id's lease to now + `ttlMs` milliseconds by the store's clock; never revives an expired one. */
  extend: (opts: LockOp & { ttlMs: number }) => Promise<ExtendResult>;
  /** Whether somebody holds the key. Read-only, and maybe no longer true when it is answered. */
  isLocked: (opts: KeyOp) => Promise<boolean>;
  /** The live lease of a key, or `null`. */
  lookup(opts: KeyLookup): Promise<LockInfo<C> | null>;
  /** The live lease of a lock id, or `null`. */
  lookup(opts: OwnershipLookup): Promise<LockInfo<C> | null>;
  /** What this backend can do. */
  readonly capabilities: Readonly<C>;
}

/** What `acquire` of a native backend takes. */
export type NativeAcquireOptions = KeyOp & { ttlMs: number; autoExtend?: AutoExtend; onLeaseLost?: OnLeaseLost };

/** A backend of this package. It keeps connections until it is closed, but never keeps the process alive. */
export interface NativeBackend<C extends BackendCapabilities> extends LockBackend<C> {
  /** As for every backend; `autoExtend` keeps the lease until it is released, `onLeaseLost` hears of its loss. */
  acquire: (opts: NativeAcquireOptions) => Promise<NativeAcquireResult<C>>;
  /** Ends connections; operations afterwards are `InvalidArgument`. Leases stay until they expire. */
  close(): Promise<void>;
  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Hears of a release that failed where nobody could catch it. What it throws changes nothing. */
export type OnReleaseError = (error: Error, context: { lockId: string; key: string; source: "disposal" }) => void;

/** Hears of a lost lease, once. What it throws changes nothing. */
export type OnLeaseLost = (error: LockError, context: { lockId: string; key: string; fence: Fence }) => void;

/**
 * Keep the lease by extending it in the background, on a thread that a blocked event loop does not stop.
 * Times in milliseconds. `intervalMs`: how often (a third of the TTL); `maxHoldMs`: for how long at most (no bound); `stallMs`: give up
 * when the event loop has not answered for so long (30000).
 */
export type AutoExtend = boolean | { intervalMs?: number; maxHoldMs?: number; stallMs?: number };

/** What handles of a backend do when they are disposed of. */
export interface BackendConfig {
  /** Hears of releases that failed during disposal. Default: a log line outside production, without key and lock id. */
  onReleaseError?: OnReleaseError;
  /** How long disposal may take, in milliseconds; running into it is reported as an error. Default: no bound of its own. */
  disposeTimeoutMs?: number;
}

/** Options that every native backend takes. */
export interface NativeBackendOptions extends BackendConfig {
  /** Whether `isLocked` may delete a record that expired over two seconds ago. Default: false. */
  cleanupInIsLocked?: boolean;
  /** How long one operation may take before it is a `NetworkTimeout`, in milliseconds. Default: 5000. */
  operationTimeoutMs?: number;
  /** How long connecting may take, in milliseconds. Default: 5000. */
  connectTimeoutMs?: number;
  /**
   * How long a key's fence counter stays after the time that its value names, in milliseconds by the store's clock: 86400000 (a day) to
   * 3153600000000. For keys that are never used again, so that the store doesn't fill up. Fences follow the clock, so they rise all the same.
   * Set it once no process of the original TypeScript library mints fences in this store any more; there is no way back to that library, whose
   * counters would begin at 1. Default: for ever.
   */
  fenceRetentionMs?: number;
}

/** What to lock, and how. */
export interface LockConfig {
  /** The name of the resource: 1 to 512 UTF-8 bytes after Unicode normalisation (NFC). */
  key: string;
  /** How long the lease lasts if nobody releases or extends it, in milliseconds. Default: 30000. */
  ttlMs?: number;
  /** Aborts the acquisition; never the release. */
  signal?: AbortSignal;
  /** In place of the backend's. */
  onReleaseError?: OnReleaseError;
  /** Hears, at once, that the lease was lost while the function ran. Default: one process warning. */
  onLeaseLost?: OnLeaseLost;
  /** Keep the lease while the function runs. Native backends only. Default: false. */
  autoExtend?: AutoExtend;
}

/** How long and how often to try. */
export interface AcquisitionOptions {
  /** How many retries a timer may cause; those that a wake-up causes are free. Default: 10. */
  maxRetries?: number;
  /** The delay before the first retry, in milliseconds. Default: 100. */
  retryDelayMs?: number;
  /** Whether the delay doubles with every retry. Default: "exponential". */
  backoff?: "exponential" | "fixed";
  /** "equal": half of the delay is random; "full": all of it; "none". Default: "equal". */
  jitter?: "equal" | "full" | "none";
  /** The hard limit for the whole acquisition, in milliseconds. Default: 5000. */
  timeoutMs?: number;
  /** Aborts the acquisition, as `LockConfig.signal` does. */
  signal?: AbortSignal;
  /** Whether to wait for the store's wake-ups, or by timer only. Default: "notify". */
  wait?: "notify" | "poll";
}

/** The handle that the function of a `createLock` lock gets. */
export type HeldLock = NativeLockHandle & AcquireOk<BackendCapabilities & { supportsFencing: true }>;

/** Runs a function while holding a lock. */
export type LockFunction = (<T>(
  fn: (handle: HeldLock) => Promise<T> | T,
  config: LockConfig & { acquisition?: AcquisitionOptions },
) => Promise<T>) & {
  /** Ends the connections of the backend below. */
  close(): Promise<void>;
  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
};

/** One operation, as `withTelemetry` tells it. */
export type LockEvent = {
  /** "acquire", "release", "extend", "isLocked" or "lookup". */
  type: string;
  /** The key, where the operation or its answer has one. */
  keyHash?: HashId;
  /** The lock id, where the operation or its answer has one. */
  lockIdHash?: HashId;
  /** "fail" for an error and for an answer of no. */
  result: "ok" | "fail";
  /** Why an operation answered no. */
  reason?: "expired" | "not-found" | "locked";
  /** Only where `includeRaw` allows it. */
  key?: string;
  /** Only where `includeRaw` allows it. */
  lockId?: string;
  /** How long the operation took, in milliseconds. */
  durationMs?: number;
  /** The code of the error that the operation rejected with. */
  error?: string;
};

/** What `withTelemetry` reports to. */
export interface TelemetryOptions {
  /** Called after every operation. What it throws changes nothing. */
  onEvent: (event: LockEvent) => void;
  /** Whether events carry the key and the lock id. A predicate that throws means no. Default: false. */
  includeRaw?: boolean | ((event: LockEvent) => boolean);
}

/**
 * The kinds of failure. `AcquisitionTimeout` is contention; `NetworkTimeout` a store that did not answer;
 * `LeaseLost` appears only as the reason of a handle's signal and to `onLeaseLost`.
 */
export type LockErrorCode =
  | "ServiceUnavailable"
  | "AuthFailed"
  | "InvalidArgument"
  | "RateLimited"
  | "NetworkTimeout"
  | "AcquisitionTimeout"
  | "Aborted"
  | "Internal"
  | "LeaseLost";

/** What is known about a failure. */
export interface LockErrorContext {
  /** What the operation was about. Not enumerable in errors of this package, so that printing one does not show it. */
  key?: string;
  /** The same for an operation by lock id, which is a secret. */
  lockId?: string;
  /** What went wrong below; also the error's own `cause`. */
  cause?: unknown;
  /** Whether trying again may help. */
  retryable?: boolean;
  /** Whether the request may have been applied by the store. */
  outcome?: "not-applied" | "unknown";
  /** The process that holds a lease file, or is the one instance. */
  pid?: number;
  /** The machine or container that this process runs on, where its record says so. */
  host?: string;
  /** Since when it is the one instance, in Unix milliseconds. */
  sinceMs?: number;
  /** What it was started with, where the system tells. */
  commandLine?: string;
}

/** Where a store is: a URL, its facts, or an existing client whose settings are adopted. */
export type BackendTarget = string | object | undefined;
