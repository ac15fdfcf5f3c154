// Opening a native client for a target.
import { close, type Opened } from "./backend.js";
import { callback } from "./checks.js";
import { entriesOf } from "./entries.js";
import { here, passwordOf, passwords, type PasswordSource } from "./environment.js";
import { errorOf, invalid, isFailure, unwrap } from "./errors.js";
import type { Entries, Kind } from "./native.js";
import { own } from "./nouns.js";
import { kindOf } from "./targets/kinds.js";
import { describe, resolveTarget, type TargetKind } from "./targets/target.js";
import type { BackendConfig } from "./types.js";

/**
 * Opens a backend, without I/O: it connects on first use.
 * @throws LockError InvalidArgument for a target or options that make no sense.
 */
export function open(kind: TargetKind, target: unknown, options: unknown): Opened {
  const resolved = resolveTarget(kind, target);
  return openNative(kind.kind, resolved.target, options, own(resolved, "password"));
}

/** The same for the root entry, where the target says which store it is. Connects, and closes again when that fails. */
export async function openAny(target: unknown, options: unknown): Promise<Opened> {
  const given = target === undefined ? process.env.SYNCGUARD_URL || undefined : target;
  const parts = given === undefined ? openNative("default", null, options) : open(kindOf(given), given, options);
  const answer = await parts.client.check();
  if (!isFailure(answer)) return parts;
  await close(parts).catch(() => {});
  throw errorOf(answer);
}

/** Makes at a store what a backend needs there. */
export async function setup(kind: TargetKind, target: unknown, options: unknown): Promise<void> {
  const resolved = resolveTarget(kind, target);
  const entries = optionsOf(options, "onReleaseError");
  const password = own(resolved, "password");
  const slot = password && passwords.add(password);
  try {
    unwrap(await here.setUp(kind.kind, resolved.target, entries, slot ?? null));
  } finally {
    if (slot !== undefined) passwords.remove(slot);
  }
}

function openNative(kind: Kind, target: string | Entries | null, options: unknown, password?: PasswordSource): Opened {
  const entries = optionsOf(options, "onReleaseError");
  const onReleaseError = callback("onReleaseError", own(options as BackendConfig | undefined, "onReleaseError"));
  const passwordSlot = password && passwords.add(password);
  const client = here.open(kind, target, entries, passwordSlot ?? null);
  if (isFailure(client)) {
    if (passwordSlot !== undefined) passwords.remove(passwordSlot);
    throw errorOf(client);
  }
  if (passwordSlot !== undefined) passwordOf(client, passwordSlot);
  return { client, onReleaseError, disposeTimeoutMs: client.info.disposeTimeoutMs, passwordSlot };
}

/** @internal The own properties of an options argument, without those named. */
export function optionsOf(options: unknown, ...without: string[]): Entries {
  if (options !== undefined && (typeof options !== "object" || options === null || Array.isArray(options))) {
    throw invalid(`options must be an object; ${describe(options)} was given`);
  }
  return entriesOf(options, ...without);
}
