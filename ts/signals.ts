import { abortedError, invalid } from "./errors.js";
import { type Cancel, type Failure, native } from "./native.js";

/**
 * @internal What a user gave as a signal. `null` counts as none.
 * @throws LockError InvalidArgument when it is no AbortSignal.
 */
export function signalOf(given: unknown): AbortSignal | undefined {
  if (given === undefined || given === null) return undefined;
  const signal = given as Partial<AbortSignal>;
  if (typeof signal.aborted !== "boolean" || typeof signal.addEventListener !== "function") {
    throw invalid("signal must be an AbortSignal");
  }
  return given as AbortSignal;
}

/** @internal Throws when the signal is aborted already: before anything is sent, and before arguments are checked. */
export function refuseAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError(signal);
}

/** @internal Makes a native call that the signal cancels. Listens only while the call runs, and never sets `onabort`. */
export async function cancellable<T>(
  signal: AbortSignal,
  call: (cancel: Cancel) => Promise<T | Failure>,
): Promise<T | Failure> {
  const cancel = new native.Cancel();
  const abort = () => cancel.cancel();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await call(cancel);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** @internal Waits for `work`, but rejects as soon as the signal is aborted. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  refuseAborted(signal);
  let abort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(abortedError(signal));
  });
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
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
  first.addEventListener("abort", abort, { once: true });
  second.addEventListener("abort", abort, { once: true });
  const leave = () => {
    first.removeEventListener("abort", abort);
    second.removeEventListener("abort", abort);
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

