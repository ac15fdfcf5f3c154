// The entry "syncguard/common": what someone needs who writes a backend in JavaScript.

export { createDisposableHandle } from "./decorate.js";
export { FAILURE_REASON } from "./disposal.js";
export { createAutoLock } from "./lock.js";
export { attachRawData } from "./lookup.js";
export { delay, formatFence, logFenceWarning, mergeAcquisitionConfig, mergeBackendConfig } from "./nouns.js";
export {
  type DocumentConditions,
  type LockCondition,
  mapBackendObservation,
  mapFirestoreConditions,
  mapRedisScriptResult,
  mapToMutationResult,
  type MutationResult,
} from "./observation.js";
export * from "./shared.js";
export { checkAborted } from "./signals.js";
