// What a kind of target is, and how one is resolved.
import { entriesOf, isPlainObject, ownOf } from "../entries.js";
import type { PasswordSource } from "../environment.js";
import { invalid } from "../errors.js";
import type { Entries, Kind } from "../native.js";

/** What a target says, ready for Rust. */
export interface Resolved {
  target: string | Entries;
  password?: PasswordSource;
}

/** A kind of store: how its targets are recognised and read. Adding a store means adding one of these to `kinds.ts`. */
export interface TargetKind {
  readonly kind: Exclude<Kind, "default">;
  /** The URL schemes, without the colon. */
  readonly schemes: readonly string[];
  /** What to call a client or an object of facts of this kind in a message. */
  readonly accepts: string;
  /** The fact that may be a function, called at each connect. Default: "password". */
  readonly passwordFact?: string;
  /** Names of facts that only this kind has: they tell its objects from those of others. */
  readonly ownFacts: readonly string[];
  /** The settings of an existing client; nothing when it is none of this kind. */
  adopt(client: object): Resolved | undefined;
  /** What a string is that is no URL, if this kind takes one. */
  text?(text: string): Resolved;
  /** The facts of an object literal, where they need more than `entriesOf`. */
  facts?(facts: Record<string, unknown>): Record<string, unknown>;
}

/**
 * Reads the first argument of a `create…` function.
 * @throws LockError InvalidArgument when it is nothing that this kind knows.
 */
export function resolveTarget(kind: TargetKind, target: unknown): Resolved {
  if (typeof target === "string") return kind.text?.(target) ?? { target };
  if (target instanceof URL) return { target: target.href };
  if (isPlainObject(target)) {
    const given = ownOf(target);
    return withoutPasswordFunction(kind.facts?.(given) ?? given, kind.passwordFact);
  }
  const isClient = (typeof target === "object" && target !== null) || typeof target === "function";
  const adopted = isClient ? kind.adopt(target as object) : undefined;
  if (adopted === undefined) throw invalid(`target must be ${kind.accepts}; ${describe(target)} was given`);
  return adopted;
}

/** Entries of facts whose password (or token) may be a function that is called at each connect. */
export function withoutPasswordFunction(facts: Record<string, unknown>, name = "password"): Resolved {
  const password = Object.hasOwn(facts, name) ? facts[name] : undefined;
  if (typeof password !== "function") return { target: entriesOf(facts) };
  return { target: entriesOf(facts, name), password: textSource(password as () => unknown) };
}

/** A password or token function as the environment calls it. */
export function textSource(call: () => unknown): PasswordSource {
  return async () => {
    const text = await call();
    if (typeof text !== "string") throw invalid("the password or token function did not answer a string");
    return { text };
  };
}

/** What something is, without its content, which may be a secret. */
export function describe(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value !== "object") return `a ${typeof value}`;
  const name = (value as object).constructor?.name;
  return name && name !== "Object" ? `an instance of ${name}` : "an object";
}
