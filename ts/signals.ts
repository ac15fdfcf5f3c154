// Abort signals.
import { abortedError, invalid } from "./errors.js";
import { type MaybeCancel, native } from "./native.js";
import { describe } from "./targets/target.js";

/**
 * @internal What a user gave as a signal. `null` counts as none.
 * @throws LockError InvalidArgument when it is no AbortSignal.
 */
export function signalOf(given: unknown): AbortSignal | undefined {
  if (given === undefined || given === null) return undefined;
  const signal = given as Partial<AbortSignal>;
  if (typeof signal.aborted !== "boolean" || typeof signal.addEventListener !== "function") {
    throw invalid(`signal must be an AbortSignal; ${describe(given)} was given`);
  }
  return given as AbortSignal;
}

/** What an aborted call was about, for its message. */
export type Aborted = "Acquisition" | "Operation";

/** @internal Throws when the signal is aborted already: before anything is sent, and before arguments are checked. */
export function refuseAborted(signal: AbortSignal | undefined, what: Aborted = "Operation"): void {
  if (signal?.aborted) throw abortedError(signal, what);
}

/** Who listens to a signal now: however many calls share it, it has one listener of ours, and none between calls. */
const followers = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `abort` when the signal is aborted, until the function that is answered is called. Never sets `onabort`. */
function follow(signal: AbortSignal, abort: () => void): () => void {
  let calls = followers.get(signal);
  if (calls === undefined) {
    followers.set(signal, (calls = new Set()));
    signal.addEventListener("abort", tellFollowers);
  }
  calls.add(abort);
  return () => {
    calls.delete(abort);
    if (calls.size > 0) return;
    followers.delete(signal);
    signal.removeEventListener("abort", tellFollowers);
  };
}

function tellFollowers(this: AbortSignal, event: Event): void {
  const signal = (event?.target ?? this) as AbortSignal;
  for (const abort of [...(followers.get(signal) ?? [])]) abort();
}

/** @internal Makes a native call, which the signal cancels where there is one; where there is none, nothing is added. */
export function cancellable<T>(signal: AbortSignal | undefined, call: (cancel: MaybeCancel) => Promise<T>): Promise<T> {
  return signal === undefined ? call(null) : cancelledBy(signal, call);
}

/** Listens only while the call runs. */
async function cancelledBy<T>(signal: AbortSignal, call: (cancel: MaybeCancel) => Promise<T>): Promise<T> {
  const cancel = new native.Cancel();
  const leave = follow(signal, () => cancel.cancel());
  try {
    return await call(cancel);
  } finally {
    leave();
  }
}

/** @internal Options for a backend: they name a signal only where there is one. */
export function withSignal<T extends object>(options: T, signal: AbortSignal | undefined): T & { signal?: AbortSignal } {
  return signal === undefined ? options : { ...options, signal };
}

/** @internal Waits for `work`, but rejects as soon as the signal is aborted. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  refuseAborted(signal);
  let leave!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    leave = follow(signal, () => reject(abortedError(signal, "Operation")));
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    leave();
  }
}

/** @internal One signal for two, with a function that stops following them. */
export function joinSignals(
  first: AbortSignal | undefined,
  second: AbortSignal | undefined,
): { signal: AbortSignal | undefined; leave: () => void } {
  if (first === undefined || second === undefined || first === second) {
    return { signal: first ?? second, leave: () => {} };
  }
  const both = new AbortController();
  const abort = () => both.abort((first.aborted ? first : second).reason);
  if (first.aborted || second.aborted) abort();
  const leaves = [follow(first, abort), follow(second, abort)];
  const leave = () => {
    for (const each of leaves) each();
  };
  return { signal: both.signal, leave };
}

/**
 * Throws when the signal is aborted: for backends written in JavaScript, between two steps.
 * @throws LockError Aborted, with the signal's reason as its cause.
 */
export function checkAborted(signal?: AbortSignal): void {
  refuseAborted(signal);
}

/** @internal Calls a user's callback, whose errors and rejections must not change what happens. */
export function quietly(callback: () => unknown): void {
  try {
    const answer = callback() as { then?: unknown } | null | undefined;
    if (typeof answer?.then === "function") answer.then(undefined, () => {});
  } catch {
    // What a callback throws is its author's business.
  }
}
