// The store in this process's memory.
import type { TargetKind } from "./target.js";

/** A store of this process, for tests: by URL only. */
export const memory: TargetKind = {
  kind: "memory",
  schemes: ["memory"],
  accepts: "memory: or memory:NAME",
  ownFacts: [],
  adopt: () => undefined,
};
