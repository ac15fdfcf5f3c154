/* The records that cross the boundary; src/node/outcome.rs makes them. Internal: not part of the public API. */
export type Failure = {
  failed: true
  code: 'ServiceUnavailable' | 'AuthFailed' | 'InvalidArgument' | 'RateLimited' | 'NetworkTimeout' | 'AcquisitionTimeout' | 'Aborted' | 'Internal' | 'LeaseLost'
  message: string
  retryable: boolean
  outcome: 'not-applied' | 'unknown'
  cause?: string
  foreign?: number
  holder?: { pid?: number; host?: string; sinceMs?: number; commandLine?: string }
}
export type Grant = { ok: true; lockId: string; expiresAtMs: number; fence: string }
export type Refused = { ok: false; reason: 'expired' | 'not-found' }
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
  MAX_KEY_LENGTH_BYTES: number
  TIME_TOLERANCE_MS: number
  BACKEND_DEFAULTS: { ttlMs: number }
  LOCK_DEFAULTS: { maxRetries: number; retryDelayMs: number; timeoutMs: number; backoff: 'exponential' | 'fixed'; jitter: 'equal' | 'full' | 'none' }
  BACKEND_LIMITS: { REDIS: number; POSTGRES: number; FIRESTORE: number }
  RESERVE_BYTES: { REDIS: number; POSTGRES: number; FIRESTORE: number }
  FENCE_THRESHOLDS: { MAX: string; WARN: string }
}
export type BackendInfo = {
  backend: 'redis' | 'postgres' | 'firestore' | 'file'
  supportsFencing: true
  timeAuthority: 'server' | 'client'
  disposeTimeoutMs?: number
}
export type MaybeCancel = Cancel | null
export type Entries = Array<[name: string, value: string | number | boolean | Uint8Array | { type: string }]>
