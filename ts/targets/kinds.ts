// The stores that the root entry knows. A new one is one line here and one file beside this one.

import { invalid } from "../errors.js";
import { isPlainObject } from "../entries.js";
import { file } from "./file.js";
import { firestore } from "./firestore.js";
import { memory } from "./memory.js";
import { postgres } from "./postgres.js";
import { redis } from "./redis.js";
import { describe, type TargetKind } from "./target.js";

export const kinds: readonly TargetKind[] = [redis, postgres, firestore, file, memory];

/**
 * Which store a target of `createBackend` or `createLock` of the root means: by scheme, facts or client.
 * @throws LockError InvalidArgument when nothing fits, or more than one does.
 */
export function kindOf(target: unknown): TargetKind {
  if (typeof target === "string" || target instanceof URL) return byScheme(String(target));
  const fitting = kinds.filter(isPlainObject(target) ? (kind) => hasFactsOf(kind, target) : (kind) => adopts(kind, target));
  const [kind] = fitting;
  if (kind === undefined || fitting.length > 1) {
    throw invalid(
      "target must be a URL, a client of ioredis, node-redis, postgres.js, pg or @google-cloud/firestore, or an object with facts that only one " +
        `store has (db, database, projectId, directory, …); ${describe(target)} was given that fits ${kind ? "several stores" : "none"}`,
    );
  }
  return kind;
}

function byScheme(url: string): TargetKind {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  const kind = kinds.find((each) => each.schemes.includes(scheme ?? ""));
  if (kind !== undefined) return kind;
  const known = kinds.flatMap((each) => each.schemes).map((each) => `${each}:`);
  // The URL itself is not repeated: it may hold a password.
  const given = scheme === undefined ? "a text without a scheme" : `${scheme}:`;
  throw invalid(`the URL of a target must begin with one of ${known.join(", ")}; ${given} was given`);
}

function hasFactsOf(kind: TargetKind, target: object): boolean {
  return kind.ownFacts.some((fact) => Object.hasOwn(target, fact));
}

function adopts(kind: TargetKind, target: unknown): boolean {
  const isClient = (typeof target === "object" && target !== null) || typeof target === "function";
  return isClient && kind.adopt(target as object) !== undefined;
}
