// Settings on their way to Rust: names and plain values. Rust knows which names there are and what they may be.

import { invalid } from "./errors.js";
import type { Entries, EntryValue } from "./native.js";

/** Whether something is an object literal, or made like one: not an instance of a class. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Also the Object.prototype of another realm (vm, jest), which has no prototype itself.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The own properties of an object literal on one without a prototype, so that nothing comes in through that. */
export function ownOf(object: object): Record<string, unknown> {
  return Object.assign(Object.create(null), object);
}

/** The own enumerable properties of an options object, without those named. */
export function entriesOf(object: object | undefined, ...without: string[]): Entries {
  const entries: Entries = [];
  for (const [name, value] of Object.entries(object ?? {})) {
    if (value === undefined || without.includes(name)) continue;
    if ((name === "tls" || name === "sentinelTls") && isPlainObject(value)) entries.push(...flattened(name, value));
    else entries.push([name, entryOf(value)]);
  }
  return entries;
}

/** The facts of a client's settings: what is `undefined`, `null` or empty says nothing. */
export function factsOf(facts: Record<string, unknown>): Entries {
  const said = Object.entries(facts).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return entriesOf(Object.fromEntries(said));
}

/** `tls.ca` and so on; an empty object still says that there is to be TLS. */
function flattened(setting: string, tls: Record<string, unknown>): Entries {
  const facts = entriesOf(tls);
  return facts.length === 0 ? [[setting, true]] : facts.map(([name, value]) => [`${setting}.${name}`, value]);
}

function entryOf(value: unknown): EntryValue {
  switch (typeof value) {
    case "string":
    case "number":
    case "boolean":
      return value;
    case "object":
      if (value === null) return { type: "null" };
      if (value instanceof Uint8Array) return value;
      return { type: Array.isArray(value) ? "an array" : "an object" };
    default:
      return { type: `a ${typeof value}` };
  }
}

/** `host:port,host:port` of a list of servers, each a URL, a port, or an object; IPv6 addresses in brackets. */
export function addresses(list: unknown, setting: string, defaultPort: number): string | undefined {
  if (!Array.isArray(list)) throw invalid(`${setting} must be an array of servers`);
  return list.map((server) => address(server, setting, defaultPort)).join(",");
}

function address(server: unknown, setting: string, defaultPort: number): string {
  if (typeof server === "number") return `127.0.0.1:${server}`;
  if (typeof server === "string") {
    const url = parseUrl(server);
    if (url === null || url.hostname === "") throw invalid(`${setting} holds a server that is neither host:port nor a URL`);
    return `${url.hostname}:${url.port || defaultPort}`;
  }
  const { host, port } = (server ?? {}) as { host?: unknown; port?: unknown };
  if (host !== undefined && host !== null && typeof host !== "string") {
    throw invalid(`${setting} holds a server whose host is no string`);
  }
  const name = host || "127.0.0.1";
  return `${name.includes(":") && !name.startsWith("[") ? `[${name}]` : name}:${port ?? defaultPort}`;
}

function parseUrl(server: string): URL | null {
  try {
    return new URL(server.includes("://") ? server : `redis://${server}`);
  } catch {
    return null;
  }
}
