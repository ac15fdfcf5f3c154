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
