// What "syncguard" and "syncguard/common" have in common.

export { acquireHandle, decorateAcquireResult } from "./decorate.js";
export { LockError } from "./errors.js";
export { lock } from "./lock.js";
export { getById, getByIdRaw, getByKey, getByKeyRaw, hasFence, owns, sanitizeLockInfo } from "./lookup.js";
export {
  BACKEND_DEFAULTS,
  BACKEND_LIMITS,
  calculateRedisServerTimeMs,
  FENCE_THRESHOLDS,
  generateLockId,
  hashKey,
  isLive,
  LOCK_DEFAULTS,
  makeStorageKey,
  MAX_KEY_LENGTH_BYTES,
  normalizeAndValidateKey,
  RESERVE_BYTES,
  TIME_TOLERANCE_MS,
  validateLockId,
} from "./nouns.js";
export { withTelemetry } from "./telemetry.js";
export type * from "./types.js";
