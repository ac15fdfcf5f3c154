// The entry "syncguard/firestore".

import { backendOf } from "./backend.js";
import { lockFunctionOf } from "./lock.js";
import { open } from "./open.js";
import { firestore } from "./targets/firestore.js";
import type { FirestoreCapabilities, LockFunction, NativeBackend, NativeBackendOptions } from "./types.js";

export type * from "./types.js";

/** Options of the Firestore backend. Collections are ids, or paths to collections inside documents. */
export interface FirestoreBackendOptions extends NativeBackendOptions {
  /** The collection of leases. Default: "locks". */
  collection?: string;
  /** The collection of fence counters. Default: "fence_counters". */
  fenceCollection?: string;
}

/** The options with their defaults. */
export interface FirestoreConfig {
  /** The collection of leases. */
  collection: string;
  /** The collection of fence counters. */
  fenceCollection: string;
  /** Whether `isLocked` may delete what expired over two seconds ago. */
  cleanupInIsLocked: boolean;
}

/** What is stored for a lease. Times are in ms since the epoch. */
export interface LockDocument {
  /** The right to release and extend it. */
  lockId: string;
  /** When it ends. */
  expiresAtMs: number;
  /** When it began. */
  acquiredAtMs: number;
  /** The user's key. */
  key: string;
  /** 15 digits. */
  fence: string;
}

/**
 * A Firestore backend. `target`: a URL (`firestore://PROJECT` or `firestore://PROJECT/DATABASE`), an object of connection
 * facts, or a client of `@google-cloud/firestore` or `firebase-admin` (`getFirestore()`), whose settings are adopted and which
 * is never used, changed or closed.
 * Does no I/O: it connects on first use.
 * @throws LockError InvalidArgument for a target or options that make no sense, or a client's setting that can't be adopted.
 */
export function createFirestoreBackend(
  target: string | URL | object,
  options?: FirestoreBackendOptions,
): NativeBackend<FirestoreCapabilities> {
  return backendOf(open(firestore, target, options));
}

/**
 * A function that runs another one while holding a lock in Firestore. Target, options and errors are those of
 * `createFirestoreBackend`.
 */
export function createLock(target: string | URL | object, options?: FirestoreBackendOptions): LockFunction {
  return lockFunctionOf(open(firestore, target, options));
}
