// What one copy of this package knows: the events of the native side arrive here. A thread has a copy of its own, or
// several, so its state needs no locks. Nothing outside holds it: it is collected with the copy.

import { isMainThread } from "node:worker_threads";
import { type Attachment, type Dispatch, type Failure, native, type Settlement } from "./native.js";

/** Hears that a lease is lost or near its local deadline. */
export interface LossListener {
  lost(failure: Failure): void;
}

/** One per-call adapter of a JavaScript backend. */
export interface AttemptRunner {
  attempt(lockId: string, ttlMs: number): Promise<Settlement>;
  undo(lockId: string): Promise<Settlement>;
}

/** Hears what one acquisition did at the store; a result is "ok", why not, or the code of an error. */
export interface AcquisitionListener {
  asked(result: string, lockId: string | undefined, durationMs: number): void;
  undone(result: string, lockId: string, durationMs: number): void;
}

/** The callbacks of one lease file. */
export interface FileListener {
  lost(failure: Failure): void;
  isAlive(pid: number): boolean;
  /** The process is about to end. */
  leave(): void;
}

/** Answers the password for one connect; `user` where the same source tells it. */
export type PasswordSource = () => Promise<{ text: string; user?: string }>;

/** Things that the native side names by number. */
class Slots<T> {
  private readonly things = new Map<number, T>();
  private last = 0;

  add(thing: T): number {
    const slot = this.reserve();
    this.put(slot, thing);
    return slot;
  }

  /** A number for something that comes and goes. */
  reserve(): number {
    return ++this.last;
  }

  /** Whether it was not there yet. */
  put(slot: number, thing: T): boolean {
    const isNew = !this.things.has(slot);
    this.things.set(slot, thing);
    return isNew;
  }

  values(): IterableIterator<T> {
    return this.things.values();
  }

  get(slot: number): T | undefined {
    return this.things.get(slot);
  }

  /** Whether it was there. */
  remove(slot: number): boolean {
    return this.things.delete(slot);
  }

  get size(): number {
    return this.things.size;
  }
}

export const adapters = new Slots<AttemptRunner>();
export const passwords = new Slots<PasswordSource>();
/** Until the engine has nothing left to tell them. */
export const acquisitions = new Slots<AcquisitionListener>();

/** For those whose client is dropped without having been closed. */
const dropped = new FinalizationRegistry<number>((slot) => passwords.remove(slot));

/** Keeps a password source for as long as its client. */
export function passwordOf(client: object, slot: number): void {
  dropped.register(client, slot);
}
export const files = new Slots<FileListener>();

/** Claims of `guard` that are held: a collected one would be given up. */
export const claims = new Set<object>();

/** The leases that native handles of this environment hold, by lock id. */
export const leases = new Map<string, LossListener>();

const stores = new WeakMap<object, number>();
let lastStore = 0;

/** The number of a JavaScript backend object: waiters on one object share a queue. */
export function storeOf(backend: object): number {
  let store = stores.get(backend);
  if (store === undefined) stores.set(backend, (store = ++lastStore));
  return store;
}

const dispatch: Dispatch = (event, a, b, c, d) => {
  switch (event) {
    case "lost":
      leases.get(a as string)?.lost(b as Failure);
      break;
    case "attempt":
      answer(a as number, () => adapters.get(b as number)?.attempt(c as string, d as number));
      break;
    case "undo":
      answer(a as number, () => adapters.get(b as number)?.undo(c as string));
      break;
    case "password":
      answer(a as number, () => passwords.get(b as number)?.());
      break;
    case "fileLost":
      files.get(a as number)?.lost(b as Failure);
      break;
    case "probe":
      here.settle(a as number, { ok: files.get(b as number)?.isAlive(c as number) ?? true });
      break;
    case "warning":
      process.emitWarning(`[SyncGuard] ${c as string}`, { type: a as string, code: b as string });
      break;
    case "asked":
      acquisitions.get(a as number)?.asked(b as string, c as string | undefined, d as number);
      break;
    case "undone":
      acquisitions.get(a as number)?.undone(b as string, c as string, d as number);
      break;
    case "unobserved":
      acquisitions.remove(a as number);
      break;
  }
};

/** The native side of this copy, which holds `dispatch` weakly; so it is held here. */
export const here: Attachment = Object.assign(native.attach(dispatch, !isMainThread, hasLoop()), { dispatch });

/** Whether calls may run on this thread's event loop, which is libuv's in Node alone: others only pretend. */
function hasLoop(): boolean {
  const { uv, bun, deno } = process.versions;
  return uv !== undefined && bun === undefined && deno === undefined && process.env.SYNCGUARD_EVENT_LOOP !== "off";
}

let holds = 0;

/** From now on somebody waits to be told of something, though he may not hold anything of this copy. */
export function hold(): void {
  if (holds++ === 0) here.hold(true);
}

/** The end of one `hold()`. */
export function letGo(): void {
  if (--holds === 0) here.hold(false);
}

/** Settles a call in any case; the dispatcher never throws. */
function answer(call: number, run: () => Promise<Settlement> | undefined): void {
  const work = run() ?? Promise.resolve<Settlement>({ ok: false, reason: "not-found" });
  work.then(
    (result) => here.settle(call, result),
    () => here.settle(call, PASSWORD_FAILED),
  );
}

// Runners never reject; password sources do. Neither what the function threw nor what it answered may be told: it may hold the secret.
const PASSWORD_FAILED: Failure = {
  failed: true,
  code: "AuthFailed",
  message: "the password or token function failed or did not answer a string",
  retryable: false,
  outcome: "not-applied",
};
