// What a backend written in JavaScript saw in its store when it released or extended a lease, as the answer to give.

import { FAILURE_REASON } from "./disposal.js";

/** What was found of a lease. The last one: the store's answer does not say. */
export type LockCondition =
  | "succeeded"
  | "observable-expired"
  | "never-existed"
  | "ownership-mismatch"
  | "cleaned-up-after-expiry"
  | "ambiguous-unknown";

/** Whether a release or extend was done, and why not. */
export type MutationResult = { ok: true } | { ok: false; reason: "expired" | "not-found" };

/** What was read of a lease's document, for `mapFirestoreConditions`. */
export interface DocumentConditions {
  /** There is a document of this lock id. */
  documentExists: boolean;
  /** It is the caller's. */
  ownershipValid: boolean;
  /** It has not expired. */
  isLive: boolean;
}

/** The answer for a condition. The reason also stands under `FAILURE_REASON`, so that telemetry tells it. */
export function mapToMutationResult(condition: LockCondition): MutationResult {
  if (condition === "succeeded") return { ok: true };
  const reason = condition === "observable-expired" ? "expired" : "not-found";
  return Object.defineProperty({ ok: false as const, reason }, FAILURE_REASON, { value: { reason } }) as MutationResult;
}

/** The condition that a script's number stands for: 1 done, 0 another's, -1 never there, -2 expired. */
export function mapRedisScriptResult(result: number): LockCondition {
  switch (result) {
    case 1:
      return "succeeded";
    case 0:
      return "ownership-mismatch";
    case -1:
      return "never-existed";
    case -2:
      return "observable-expired";
    default:
      return "ambiguous-unknown";
  }
}

/** The condition of a document: first whether there is one, then whose it is, then whether it is live. */
export function mapFirestoreConditions({ documentExists, ownershipValid, isLive }: DocumentConditions): LockCondition {
  if (!documentExists) return "never-existed";
  if (!ownershipValid) return "ownership-mismatch";
  return isLive ? "succeeded" : "observable-expired";
}

/** `mapRedisScriptResult` of a number, `mapFirestoreConditions` of an object. */
export function mapBackendObservation(observation: number | DocumentConditions): LockCondition {
  return typeof observation === "object" && observation !== null
    ? mapFirestoreConditions(observation)
    : mapRedisScriptResult(observation);
}
