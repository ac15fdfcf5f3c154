// The entry "syncguard/pid".

import { logDisposalFailure } from "./disposal.js";
import { claims, here, hold, letGo } from "./environment.js";
import { errorOf, invalid, isFailure, type LockError, unwrap } from "./errors.js";
import { quietly } from "./signals.js";
import { describe } from "./targets/target.js";
import type { Guard } from "./native.js";

/** How `guard` went: nobody was there, a dead instance's claim was replaced, or another instance lives. */
export type GuardState = "OK" | "OK_STALE_LOCK_REMOVED" | "CONFIRMED_TO_NOT_START";

/** What the callback is told besides the error. */
export interface GuardData {
  /** Missing when it is not known whether another instance lives (no permission, full disk, …). */
  state?: GuardState;
}

/** Lets another instance start. Idempotent; the callback, if any, gets an error when the system refuses. */
export type GuardCleanup = (done?: (error: LockError | null) => void) => Promise<void>;

/** Told once how it went: `error` is null exactly when this process is the only instance; `cleanup` then ends that. */
export type GuardCallback = (error: LockError | null, data: GuardData, cleanup: GuardCleanup) => void;

/** The claim to be the only instance. */
export interface GuardHandle extends AsyncDisposable {
  /** "OK", or "OK_STALE_LOCK_REMOVED" where a dead instance's claim was replaced. */
  readonly state: GuardState;
  /** Lets another instance start. Idempotent. */
  cleanup: GuardCleanup;
}

function keep(claim: Guard): void {
  claims.add(claim);
  hold();
}

function letBe(claim: Guard): void {
  if (claims.delete(claim)) letGo();
}

// Taken when this is loaded: tests replace it together with timers.
const { nextTick } = process;

const nothing: GuardCleanup = async (done) => done?.(null);

/**
 * Makes this process the only instance under `name` in `dir`, until `cleanup()` or its end, however it dies. Never
 * waits for another instance. With a callback, as the npm package `pidlock`: `callback(error, data, cleanup)`.
 * @throws LockError AcquisitionTimeout when an instance lives, with `context.pid`, `context.sinceMs` and
 *   `context.commandLine`; InvalidArgument for a name that is none or when something else is at that place;
 *   NetworkTimeout when the disk has not answered within 5 s: what it grants later is given back.
 */
export function guard(dir: string, name: string): Promise<GuardHandle>;
export function guard(dir: string, name: string, callback: GuardCallback): void;
// biome-ignore lint/suspicious/noConfusingVoidType: the two answers of the overloads; one of them is none.
export function guard(dir: string, name: string, callback?: GuardCallback): Promise<GuardHandle> | void {
  if (callback === undefined) return start(dir, name);
  if (typeof callback !== "function") throw invalid(`callback must be a function; ${describe(callback)} was given`);
  start(dir, name).then(
    // What the callback throws must surface as if it had been called by the event loop.
    (handle) => nextTick(callback, null, { state: handle.state }, handle.cleanup),
    (error: LockError) => {
      const data: GuardData = error.context?.pid === undefined ? {} : { state: "CONFIRMED_TO_NOT_START" };
      nextTick(callback, error, data, nothing);
    },
  );
}

async function start(dir: string, name: string): Promise<GuardHandle> {
  const claim = unwrap(here.singleInstance(dir, name));
  const state = await claim.start();
  if (isFailure(state)) throw errorOf(state);
  keep(claim);
  const cleanUp = async () => {
    const answer = await claim.cleanup();
    if (isFailure(answer)) throw errorOf(answer);
    letBe(claim);
  };
  const cleanup: GuardCleanup = async (done) => {
    if (done === undefined) return cleanUp();
    await cleanUp().then(
      () => done(null),
      (error: LockError) => done(error),
    );
  };
  return {
    state: state as GuardState,
    cleanup,
    [Symbol.asyncDispose]: () => cleanUp().catch((error) => quietly(() => logDisposalFailure(error))),
  };
}
