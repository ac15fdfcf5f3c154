// The few things that Rust never sees and so cannot check.

import { invalid } from "./errors.js";
import { describe } from "./targets/target.js";

/** @throws LockError InvalidArgument when a callback is neither a function nor absent. */
export function callback<T>(name: string, given: T): T | undefined {
  if (given === undefined || given === null) return undefined;
  if (typeof given !== "function") throw invalid(`${name} must be a function; ${describe(given)} was given`);
  return given;
}

/** Whether something has the methods of a backend. */
export function requireBackend(backend: unknown, ...methods: string[]): asserts backend is object {
  const given = backend as Record<string, unknown> | null | undefined;
  const missing = methods.find((method) => typeof given?.[method] !== "function");
  if (missing !== undefined) throw invalid(`backend must be a lock backend; this has no method ${missing}()`);
}
