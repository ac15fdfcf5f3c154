// Clients of PostgreSQL: postgres.js and pg, told by what they have, since neither is a dependency.

import { Socket } from "node:net";
import { factsOf } from "../entries.js";
import { textSource, type Resolved, type TargetKind } from "./target.js";
import { notAdopted, refuseSettings, tlsFacts } from "./tls.js";

type Options = Record<string, unknown>;

export const postgres: TargetKind = {
  kind: "postgres",
  schemes: ["postgres", "postgresql"],
  accepts: "a postgres: URL, an object of connection facts, or a client of postgres.js or pg",
  ownFacts: ["user", "database", "sslmode", "hosts", "applicationName", "options", "targetSessionAttrs"],

  adopt(client) {
    const given = client as Options;
    if (typeof client === "function") {
      return typeof given.unsafe === "function" && isObject(given.options) ? postgresJs(given.options) : undefined;
    }
    if (isObject(given.connectionParameters)) return pgClient(given);
    if (isObject(given.options) && typeof given.Client === "function") return pgPool(given);
    return undefined;
  },
};

function postgresJs(options: Options): Resolved {
  refuseSettings(options, "socket");
  if (options.sslnegotiation === "direct") throw notAdopted('sslnegotiation: "direct"');
  const hosts = options.host as string[];
  const ports = options.port as number[];
  const path = typeof options.path === "string" ? options.path : undefined;
  const { application_name: applicationName, ...parameters } = (options.connection ?? {}) as Options;
  return withPassword(options.pass, {
    ...(path === undefined ? hostFacts(hosts, ports) : socketFacts(path)),
    user: options.user,
    database: options.database,
    applicationName,
    options: startupOptions(parameters),
    targetSessionAttrs: options.target_session_attrs,
    ...postgresJsTls(options.ssl),
  });
}

/** What postgres.js makes of `ssl`: "require", "allow" and "prefer" do not verify, everything else does. */
function postgresJsTls(ssl: unknown): Options {
  if (!ssl || ssl === "disable") return { sslmode: "disable" };
  if (ssl === "require" || ssl === "allow" || ssl === "prefer") return { sslmode: ssl };
  return verifiedTls(ssl);
}

function pgPool(pool: Options): Resolved {
  const options = pool.options as Options;
  refuseSettings(options, "stream", "connection");
  // pg's own reading of its own settings (connection string, environment): an object that is never connected.
  // It gets copies, because it hides the key in the object it is given; of hidden ones only a name brings them along.
  const { password, ssl } = options;
  const copy = { ...options, password, ssl: isObject(ssl) ? { ...ssl, key: ssl.key } : ssl };
  const Client = pool.Client as new (options: unknown) => Options;
  return pgClient(new Client(copy));
}

function pgClient(client: Options): Resolved {
  const stream = (client.connection as Options | undefined)?.stream;
  if (stream !== undefined && !(stream instanceof Socket)) throw notAdopted("stream (a custom connector)");
  const parameters = client.connectionParameters as Options;
  if (parameters.sslnegotiation === "direct") throw notAdopted('sslnegotiation: "direct"');
  const { password, host, port } = parameters;
  // pg hands the function its parameters.
  const bound = typeof password === "function" ? () => (password as (p: unknown) => unknown)(parameters) : password;
  return withPassword(bound, {
    host,
    port,
    user: parameters.user,
    database: parameters.database,
    applicationName: parameters.application_name ?? parameters.fallback_application_name,
    options: parameters.options,
    ...(parameters.ssl ? verifiedTls(parameters.ssl) : { sslmode: "disable" }),
  });
}

/** TLS that verifies unless it was told not to. */
function verifiedTls(ssl: unknown): Options {
  const { tls } = tlsFacts(ssl, "ssl");
  const verifies = (tls as Options).rejectUnauthorized !== false;
  const detailed = isObject(tls) && Object.keys(tls).length > 0;
  return { sslmode: verifies ? "verify-full" : "require", ...(detailed ? { tls } : { ssl: true }) };
}

function hostFacts(hosts: string[], ports: number[]): Options {
  if (hosts.length === 1) return { host: hosts[0], port: ports[0] };
  return { hosts: hosts.map((host, i) => `${host.includes(":") ? `[${host}]` : host}:${ports[i]}`).join(",") };
}

/** The directory and port in the name of a Unix socket. */
function socketFacts(path: string): Options {
  const parts = /^(.*)\/\.s\.PGSQL\.(\d+)$/.exec(path);
  if (parts === null) throw notAdopted("path (a socket that is not named .s.PGSQL.PORT)");
  return { host: parts[1], port: Number(parts[2]) };
}

/** Parameters of the session as the server takes them when it starts: `-c name=value`. */
function startupOptions(parameters: Options): string | undefined {
  const settings = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  if (settings.length === 0) return undefined;
  return settings
    .map(([name, value]) => (name === "options" ? String(value) : `-c ${name}=${String(value).replace(/[\\\s]/g, "\\$&")}`))
    .join(" ");
}

function withPassword(password: unknown, facts: Options): Resolved {
  if (typeof password !== "function") return { target: factsOf({ ...facts, password }) };
  return { target: factsOf(facts), password: textSource(password as () => unknown) };
}

function isObject(value: unknown): value is Options {
  return typeof value === "object" && value !== null;
}
