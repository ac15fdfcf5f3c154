// The error class, and failures of the addon as errors.
import { types } from "node:util";
import type { Failure } from "./native.js";
import type { Aborted } from "./signals.js";
import type { LockErrorCode, LockErrorContext } from "./types.js";

/**
 * The one error of this package. `code` says what kind of failure it is, `context.retryable` whether trying
 * again may help, `context.outcome` whether the request may have been applied by the store.
 */
export class LockError extends Error {
  /** What kind of failure it is. */
  code: LockErrorCode;
  /** What else is known. */
  declare context?: LockErrorContext;

  /** `message` defaults to the code; `context.cause` becomes the standard `cause` as well. */
  constructor(code: LockErrorCode, message?: string, context?: LockErrorContext) {
    super(message ?? code, context?.cause === undefined ? undefined : { cause: context.cause });
    this.code = code;
    if (context !== undefined) this.context = context;
  }
}

// On the prototype, so that printing an error does not repeat it.
Object.defineProperty(LockError.prototype, "name", { value: "LockError", writable: true, configurable: true });

/** What a call was about. Both end up where printing an error does not show them. */
export interface Subject {
  key?: unknown;
  lockId?: unknown;
}

/** @internal An InvalidArgument in one sentence. */
export function invalid(message: string): LockError {
  return new LockError("InvalidArgument", message, { retryable: false, outcome: "not-applied" });
}

/** @internal Whether a native call answered a failure. */
export function isFailure(answer: unknown): answer is Failure {
  return typeof answer === "object" && answer !== null && (answer as { failed?: unknown }).failed === true;
}

/**
 * @internal The error of a failed native call; for an aborted one the cause is the signal's reason, and the message says
 * what was cancelled.
 */
export function errorOf(failure: Failure, subject?: Subject, signal?: AbortSignal, what?: Aborted): LockError {
  const context: LockErrorContext = { retryable: failure.retryable, outcome: failure.outcome, ...failure.holder };
  const cause =
    failure.code === "Aborted" && signal?.aborted
      ? signal.reason
      : failure.cause === undefined
        ? undefined
        : causeOf(failure.cause);
  hide(context, "cause", cause);
  if (typeof subject?.key === "string") hide(context, "key", subject.key);
  if (typeof subject?.lockId === "string") hide(context, "lockId", subject.lockId);
  const message = failure.code === "Aborted" && what !== undefined ? cancelled(what) : failure.message;
  return new LockError(failure.code, message, context);
}

/** @internal The answer of a synchronous native call, or its error thrown. */
export function unwrap<T>(answer: T | Failure, subject?: Subject): T {
  if (isFailure(answer)) throw errorOf(answer, subject);
  return answer;
}

const cancelled = (what: Aborted): string => `${what} cancelled by user signal`;

/** @internal What `signal` being aborted is called here. */
export function abortedError(signal: AbortSignal, what: Aborted): LockError {
  const context: LockErrorContext = { retryable: false, outcome: "not-applied" };
  hide(context, "cause", signal.reason);
  return new LockError("Aborted", cancelled(what), context);
}

/** @internal Whether something is an Error, also one of another context (vm, jest), whose class is another. */
export function isError(thrown: unknown): thrown is Error {
  return thrown instanceof Error || types.isNativeError(thrown);
}

/** @internal What was thrown as the Error that callbacks expect. */
export function asError(thrown: unknown): Error {
  return isError(thrown) ? thrown : new Error(textOf(thrown));
}

function textOf(thrown: unknown): string {
  try {
    return String(thrown);
  } catch {
    return "an object that has no text was thrown";
  }
}

/** What went wrong below, in Rust: it has no place in JavaScript. */
function causeOf(text: string): Error {
  const cause = new Error(text);
  cause.stack = `Error: ${text}`;
  return cause;
}

function hide(context: LockErrorContext, name: "cause" | "key" | "lockId", value: unknown): void {
  if (value !== undefined) Object.defineProperty(context, name, { value, writable: true, configurable: true });
}
