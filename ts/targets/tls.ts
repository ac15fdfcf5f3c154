// TLS settings of other clients as facts, and refusals of those that can't be.
import { invalid } from "../errors.js";

/** The settings of Node's `tls.connect` that can be taken over. */
const ADOPTED = ["ca", "cert", "key", "servername", "rejectUnauthorized"] as const;

/** Those that decide who is trusted, and can't be: leaving one out would connect to somebody else. */
const NOT_ADOPTED = ["pfx", "passphrase", "checkServerIdentity", "secureContext", "pskCallback", "crl"] as const;

/**
 * The facts of a client's TLS settings; nothing when it uses none.
 * @throws LockError InvalidArgument that names a setting which can't be adopted.
 */
export function tlsFacts(tls: unknown, setting: string): { tls?: unknown } {
  if (!tls) return {};
  if (typeof tls !== "object") return { tls: true };
  const given = tls as Record<string, unknown>;
  for (const name of NOT_ADOPTED) {
    if (given[name] !== undefined && given[name] !== null) throw notAdopted(`${setting}.${name}`);
  }
  const facts: Record<string, unknown> = {};
  for (const name of ADOPTED) {
    const value = given[name];
    if (value !== undefined && value !== null) facts[name] = joined(value, `${setting}.${name}`);
  }
  return { tls: facts };
}

/** Node takes several certificates as an array, Rust as one text. */
function joined(value: unknown, setting: string): unknown {
  if (!Array.isArray(value)) return value;
  const texts = value.map((part: unknown) => {
    if (typeof part !== "string" && !(part instanceof Uint8Array)) throw notAdopted(setting);
    return typeof part === "string" ? part : Buffer.from(part).toString("latin1");
  });
  return texts.join("\n");
}

/** The error for a client that is set up in a way which this package can't repeat. */
export function notAdopted(setting: string, instead = "pass a URL or the connection's facts instead"): Error {
  return invalid(`the client's setting ${setting} can't be adopted; ${instead}`);
}

/** @throws LockError InvalidArgument that names the first of these settings which is there. */
export function refuseSettings(options: Record<string, unknown>, ...names: string[]): void {
  for (const name of names) {
    const value = options[name];
    if (value !== undefined && value !== null && value !== false) throw notAdopted(name);
  }
}
