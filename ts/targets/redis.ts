// Clients of Redis: ioredis (and its fork for Valkey) and node-redis, told by what they have, since neither is a dependency.

import { addresses, factsOf } from "../entries.js";
import { invalid } from "../errors.js";
import { textSource, type Resolved, type TargetKind } from "./target.js";
import { notAdopted, refuseSettings, tlsFacts } from "./tls.js";

type Options = Record<string, unknown>;

interface Client {
  options?: Options;
  [member: string]: unknown;
}

export const redis: TargetKind = {
  kind: "redis",
  schemes: ["redis", "rediss", "redis+unix", "redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster"],
  accepts: "a redis: URL, an object of connection facts, or a client of ioredis or node-redis",
  ownFacts: ["db", "path", "username", "clientKeyPrefix", "clientName", "sentinels", "sentinelName", "clusterNodes"],

  adopt(client) {
    const given = client as Client;
    if (typeof given.defineCommand === "function" && isObject(given.options)) {
      return given.isCluster === true ? ioredisCluster(given) : ioredis(given.options);
    }
    if (typeof given.sendCommand === "function" && typeof given.connect === "function") return nodeRedis(given);
    return undefined;
  },

  facts(facts) {
    const { sentinels, clusterNodes } = facts;
    return {
      ...facts,
      ...(Array.isArray(sentinels) && { sentinels: addresses(sentinels, "sentinels", 26379) }),
      ...(Array.isArray(clusterNodes) && { clusterNodes: addresses(clusterNodes, "clusterNodes", 6379) }),
    };
  },
};

function ioredis(options: Options): Resolved {
  if (typeof options.Connector === "function") throw notAdopted("Connector (a custom connector)");
  const common = {
    username: options.username,
    password: options.password,
    db: options.db,
    clientKeyPrefix: prefixOf(options.keyPrefix),
    clientName: options.connectionName,
  };
  if (options.sentinels) {
    refuseSettings(options, "natMap");
    if (options.role === "slave") throw notAdopted('role: "slave"', "locks need the master");
    return {
      target: factsOf({
        ...common,
        sentinels: addresses(options.sentinels, "sentinels", 26379),
        sentinelName: options.name,
        sentinelUsername: options.sentinelUsername,
        sentinelPassword: options.sentinelPassword,
        ...sentinelTls(options),
      }),
    };
  }
  const where = options.path ? { path: options.path } : { host: options.host, port: options.port };
  return { target: factsOf({ ...where, ...common, ...tlsFacts(options.tls, "tls") }) };
}

/** What is not said here means no TLS to ioredis, and to the core the same as for the servers. */
function sentinelTls(options: Options): { tls?: unknown; sentinelTls: unknown } {
  const ofServers = tlsFacts(options.enableTLSForSentinelMode ? options.tls : undefined, "tls");
  const { tls: ofSentinels } = tlsFacts(options.sentinelTLS, "sentinelTLS");
  return { ...ofServers, sentinelTls: ofSentinels ?? false };
}

function ioredisCluster(cluster: Client): Resolved {
  const options = cluster.options as Options;
  refuseSettings(options, "natMap", "useSRVRecords");
  const nodeOptions = (options.redisOptions ?? {}) as Options;
  const nodes = cluster.startupNodes as unknown[];
  // What a start-up node says for itself comes before what all of them share, and the first one speaks for all.
  const first = startupNode(nodes[0]);
  return {
    target: factsOf({
      clusterNodes: addresses(nodes, "the cluster's nodes", 6379),
      username: first.username ?? nodeOptions.username,
      password: first.password ?? nodeOptions.password,
      clientKeyPrefix: prefixOf(options.keyPrefix ?? nodeOptions.keyPrefix),
      clientName: nodeOptions.connectionName,
      ...tlsFacts(first.tls ?? nodeOptions.tls, "redisOptions.tls"),
    }),
  };
}

function startupNode(node: unknown): Options {
  if (isObject(node)) return node;
  const url = typeof node === "string" && /^rediss?:\/\//.test(node) ? new URL(node) : undefined;
  if (url === undefined) return {};
  return {
    username: decodeURIComponent(url.username) || undefined,
    password: decodeURIComponent(url.password) || undefined,
    tls: url.protocol === "rediss:" ? {} : undefined,
  };
}

function nodeRedis(client: Client): Resolved {
  const self = client._self as { _options?: Options } | undefined;
  const cluster = (client._options ?? self?._options) as Options | undefined;
  if (Array.isArray(cluster?.rootNodes)) return nodeRedisCluster(cluster, cluster.rootNodes as Options[]);
  const { options } = client;
  if (!isObject(options) || "sentinelRootNodes" in options || typeof client.duplicate !== "function") {
    throw invalid(
      "the settings of this node-redis client are private; pass a redis-sentinel: or redis-cluster: URL, or the connection's facts",
    );
  }
  return nodeRedisFacts(options, undefined);
}

function nodeRedisCluster(cluster: Options, roots: Options[]): Resolved {
  refuseSettings(cluster, "nodeAddressMap");
  const defaults = (cluster.defaults ?? {}) as Options;
  const servers = roots.map((root) => (typeof root.url === "string" ? root.url : root.socket));
  const first = roots[0] ?? {};
  const url = typeof first.url === "string" ? startupNode(first.url) : {};
  const socket = { ...((defaults.socket ?? {}) as Options), ...((first.socket ?? {}) as Options) };
  if (url.tls) socket.tls = true;
  const merged = { ...defaults, ...url, ...first, socket };
  return nodeRedisFacts(merged, addresses(servers, "rootNodes", 6379));
}

function nodeRedisFacts(options: Options, clusterNodes: string | undefined): Resolved {
  const socket = (options.socket ?? {}) as Options;
  const where =
    clusterNodes !== undefined
      ? { clusterNodes }
      : socket.path
        ? { path: socket.path }
        : { host: socket.host, port: socket.port, db: options.database };
  const credentials = credentialsOf(options);
  return {
    target: factsOf({
      ...where,
      ...(socket.path && clusterNodes === undefined ? { db: options.database } : {}),
      ...credentials.facts,
      clientKeyPrefix: prefixOf(options.keyPrefix),
      clientName: options.name,
      ...(socket.tls ? tlsFacts({ ...socket }, "socket") : {}),
    }),
    ...(credentials.password && { password: credentials.password }),
  };
}

interface CredentialsProvider {
  type?: string;
  credentials?(): Promise<{ username?: string; password?: string }>;
  subscribe?(listener: object): Promise<[{ username?: string; password?: string }, { dispose(): void }]>;
}

/** node-redis makes a provider of a plain user and password; only one that the user wrote needs to be asked. */
function credentialsOf(options: Options): { facts: Options; password?: Resolved["password"] } {
  const { username, password } = options;
  const provider = options.credentialsProvider as CredentialsProvider | undefined;
  const plain = typeof password === "string" || typeof username === "string";
  if (!provider || plain) return { facts: { username, password } };
  const ask = async () => {
    if (typeof provider.credentials === "function") return provider.credentials();
    if (typeof provider.subscribe !== "function") throw notAdopted("credentialsProvider");
    const [current, subscription] = await provider.subscribe({ onNext() {}, onError() {} });
    subscription.dispose();
    return current;
  };
  return {
    facts: {},
    password: async () => {
      const { username: user, password: text } = await ask();
      return { ...(await textSource(() => text)()), ...(user !== undefined && { user }) };
    },
  };
}

function prefixOf(prefix: unknown): string | undefined {
  if (prefix instanceof Uint8Array) {
    const text = Buffer.from(prefix).toString("utf8");
    if (!Buffer.from(text).equals(prefix)) throw notAdopted("keyPrefix (bytes that are no UTF-8)");
    return text;
  }
  return typeof prefix === "string" ? prefix : undefined;
}

function isObject(value: unknown): value is Options {
  return typeof value === "object" && value !== null;
}
