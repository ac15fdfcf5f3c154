/* The records that cross the boundary; src/node/returned.rs makes them. Internal: not part of the public API. */
export type ErrorCode =
  | 'ServiceUnavailable'
  | 'AuthFailed'
  | 'InvalidArgument'
  | 'RateLimited'
  | 'NetworkTimeout'
  | 'AcquisitionTimeout'
  | 'Aborted'
  | 'Internal'
  | 'LeaseLost'
/** What a native call answers in place of throwing; TypeScript makes a `LockError` of it. */
export type Failure = {
  failed: true
  code: ErrorCode
  message: string
  retryable: boolean
  outcome: 'not-applied' | 'unknown'
  cause?: string
  /** Rethrow the very error that the JavaScript adapter keeps under this number. */
  foreign?: number
  /** Who holds a lease file, or is the one instance. */
  holder?: { pid?: number; host?: string; sinceMs?: number; commandLine?: string }
}
export type Grant = { ok: true; lockId: string; expiresAtMs: number; fence: string }
export type RefusalReason = 'expired' | 'not-found'
export type Refused = { ok: false; reason: RefusalReason }
export type LeaseRecord = { key: string; lockId: string; expiresAtMs: number; acquiredAtMs: number; fence: string }
export type Policy = {
  timeoutMs: number
  maxRetries: number
  retryDelayMs: number
  backoff: 'exponential' | 'fixed'
  jitter: 'equal' | 'full' | 'none'
  wait: 'notify' | 'poll'
}
export type Constants = {
  ERROR_CODES: ErrorCode[]
  MAX_KEY_LENGTH_BYTES: 512
  TIME_TOLERANCE_MS: 1000
  BACKEND_DEFAULTS: { ttlMs: number }
  LOCK_DEFAULTS: Omit<Policy, 'wait'>
  BACKEND_LIMITS: { REDIS: number; POSTGRES: number; FIRESTORE: number }
  RESERVE_BYTES: { REDIS: number; POSTGRES: number; FIRESTORE: number }
  FENCE_THRESHOLDS: { MAX: string; WARN: string }
}
export type Kind = 'redis' | 'postgres' | 'firestore' | 'file' | 'memory' | 'default'
export type BackendInfo = {
  backend: Exclude<Kind, 'default'>
  supportsFencing: true
  timeAuthority: 'server' | 'client'
  disposeTimeoutMs?: number
}
export type MaybeCancel = Cancel | null
/** Settings by name, as a user gave them; what no setting can be is `{ type: "a function" }`. */
export type Entries = Array<[name: string, value: EntryValue]>
export type EntryValue = string | number | boolean | Uint8Array | { type: string }
/** Hears of the native side's events. */
export type Dispatch = (event: string, a: unknown, b: unknown, c: unknown, d: unknown) => void
/** What a JavaScript backend threw, which stays in JavaScript under this number. What it does not say follows from the code. */
export type ForeignFailure = {
  failed: true
  code: ErrorCode
  message: string
  retryable?: boolean
  outcome?: 'not-applied' | 'unknown'
  foreign: number
}
/** What TypeScript answers to an event that carries a call number. */
export type Settlement =
  | { granted: true; expiresAtMs: number }
  | { granted: false }
  | { ok: boolean; reason?: string }
  | { text: string; user?: string }
  | Failure
  | ForeignFailure

/**
 * Which binding artifact the generated loader actually loaded: `'native'` for
 * a native addon, otherwise the `platformArchABI` of the WASI flavor. Every
 * flavor napi-rs can build is listed, because `NAPI_RS_NATIVE_LIBRARY_PATH`
 * can point the loader at a WASI artifact this package does not build itself.
 */
export declare const __napiBindingTarget: 'native' | 'wasm32-wasi' | 'wasm32-wasip1'

/** What everything of a copy hangs on. */
export declare class Attachment {
  /** Answers an event that carries a call number. */
  settle(call: number, result: Settlement): void
  /** How many calls have ended on the thread of their caller, and how many with the engine. */
  ended(): { here: number, elsewhere: number }
  /** Whether somebody waits to hear of an event: then the copy must not be collected. */
  hold(hold: boolean): void
  /** The acquisition loop over a JavaScript backend. */
  lockForeign(adapter: number, store: number, cancel: Cancel | undefined | null, key: unknown, ttlMs: unknown, acquisition: unknown): Promise<{ ok: true, lockId: string } | Failure>
  /** Releases what `lockForeign` was granted. */
  releaseForeign(cancel: Cancel | undefined | null, lockId: unknown): Promise<{ ok: true } | Refused | Failure>
  /** Opens nothing yet. */
  fileLock(path: unknown, options: Entries, slot: number, asksProbe: boolean): FileLock | Failure
  /** Claims nothing yet. */
  singleInstance(directory: unknown, name: unknown): Guard | Failure
  /** A backend with its engine; no I/O yet. */
  open(kind: Kind, target: string | Entries | null, options: Entries, passwordSlot: number | null): Client | Failure
  /** Makes at a store what a backend needs there: tables. */
  setUp(kind: Kind, target: string | Entries, options: Entries, passwordSlot: number | null): Promise<null | Failure>
  /** Crosses the boundary and comes back: the floor of every call, for the benchmark. */
  emptyCall(): Promise<null>
}

/** Ends one call early. */
export declare class Cancel {
  constructor()
  cancel(): void
}

export declare class Client {
  get info(): BackendInfo
  /** Asks the store for a key that nobody has, so that a wrong address or password shows now. */
  check(): Promise<null | Failure>
  /** One attempt, past the queue. */
  acquire(cancel: MaybeCancel, key: unknown, ttlMs: unknown, keep: unknown): Promise<Grant | { ok: false } | Failure>
  /** Attempts until granted or out of time, in line with this process's other waiters. An observer hears of them. */
  lock(cancel: MaybeCancel, key: unknown, ttlMs: unknown, acquisition: unknown, keep: unknown, observer?: number | undefined | null): Promise<Grant | Failure>
  release(cancel: MaybeCancel, lockId: unknown): Promise<{ ok: true } | Refused | Failure>
  extend(cancel: MaybeCancel, lockId: unknown, ttlMs: unknown, onlyIfHeld: boolean): Promise<{ ok: true, expiresAtMs: number } | Refused | Failure>
  isLocked(cancel: MaybeCancel, key: unknown): Promise<boolean | Failure>
  lookup(cancel: MaybeCancel, by: 'key' | 'lockId', value: unknown): Promise<null | LeaseRecord | Failure>
  /** How long the lease is certainly still ours, in ms; 0 when it is not. Local, no I/O. */
  remainingMs(lockId: unknown): number
  close(): Promise<null | Failure>
}

/** A lease file as JavaScript holds it. The slot is where TypeScript keeps its callbacks. */
export declare class FileLock {
  acquire(): Promise<null | Failure>
  release(): Promise<{ ok: true } | Refused | Failure>
  /**
   * Releases while JavaScript waits, for a process that is about to end. What the system refuses becomes stale by
   * itself.
   */
  leave(): void
  get held(): boolean
}

/** The claim to be the only instance, as JavaScript holds it. */
export declare class Guard {
  /** Answers the state and the path. */
  start(): Promise<string | Failure>
  cleanup(): Promise<null | Failure>
}

/**
 * Registers the function that gets a copy's events, before anything asynchronous. It is held weakly, since it
 * leads to all of the copy: who attaches keeps it for as long as the attachment. `hasLoop`: this is a program that is
 * known to have libuv's event loop.
 */
export declare function attach(dispatch: Dispatch, worker: boolean, hasLoop: boolean): Attachment

export declare function checkTime(name: string, ms: unknown): null | Failure

/** The constants that the package exports. */
export declare function constants(): Constants

export declare function formatFence(value: unknown): string | Failure

export declare function generateLockId(): string

export declare function hashKey(value: unknown): string | Failure

export declare function isLive(expiresAtMs: number, nowMs: number, toleranceMs: number): boolean

export declare function makeStorageKey(prefix: unknown, key: unknown, limit: unknown, reserve: unknown): string | Failure

export declare function normalizeKey(key: unknown): string | Failure

/** Acquisition options with their defaults filled in. */
export declare function policy(options: unknown): Policy | Failure

export declare function redisServerTimeMs(seconds: unknown, micros: unknown): number | Failure

export declare function validateLockId(lockId: unknown): null | Failure
