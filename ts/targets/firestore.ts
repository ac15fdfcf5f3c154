// Clients of Firestore: `Firestore` of @google-cloud/firestore (and so of firebase-admin), told by what it has, since it
// is no dependency.

import { factsOf, isPlainObject } from "../entries.js";
import { textSource, type Resolved, type TargetKind } from "./target.js";
import { notAdopted, refuseSettings } from "./tls.js";

type Options = Record<string, unknown>;

export const firestore: TargetKind = {
  kind: "firestore",
  schemes: ["firestore"],
  accepts: "a firestore: URL, an object of connection facts, or a client of @google-cloud/firestore",
  ownFacts: ["projectId", "databaseId", "keyFilename", "credentials", "token"],
  secret: "token",

  adopt(client) {
    const given = client as Options;
    const isFirestore = typeof given.runTransaction === "function" && typeof given.collectionGroup === "function";
    return isFirestore && isObject(given._settings) ? firestoreClient(given, given._settings) : undefined;
  },

  facts({ credentials, ...facts }) {
    if (credentials === undefined) return facts;
    return isPlainObject(credentials) ? { ...facts, ...pairOf(credentials) } : { ...facts, credentials };
  },
};

function firestoreClient(client: Options, settings: Options): Resolved {
  refuseSettings(settings, "apiKey", "sslCreds");
  for (const name of ["universeDomain", "universe_domain"]) {
    if (settings[name] !== "googleapis.com") refuseSettings(settings, name);
  }
  refuseHeaders(settings);
  const facts = {
    projectId: projectOf(client._projectId ?? settings.projectId),
    databaseId: client._databaseId ?? settings.databaseId,
    host: hostOf(settings),
    ssl: settings.ssl,
  };
  // Without TLS the client shows its credentials to nobody.
  if (settings.ssl === false) return { target: factsOf(facts) };
  const source = settings.auth ?? settings.authClient;
  if (source) return { target: factsOf(facts), password: textSource(() => tokenOf(source, settings)) };
  return { target: factsOf({ ...facts, ...credentialsOf(settings) }) };
}

function credentialsOf({ credentials, keyFilename, keyFile }: Options): Options {
  if (!credentials) return { keyFilename: keyFilename ?? keyFile };
  const { client_email: email, private_key: key } = credentials as Options;
  if (!email || !key) throw notAdopted("credentials (other than client_email and private_key)");
  return pairOf(credentials as Options);
}

/** What is missing is told by Rust. */
function pairOf(credentials: Options): Options {
  return {
    "credentials.client_email": credentials.client_email ?? null,
    "credentials.private_key": credentials.private_key ?? null,
  };
}

/** The client itself takes a host apart. */
function hostOf({ servicePath, apiEndpoint, port, ssl }: Options): string | undefined {
  const name = servicePath ?? apiEndpoint;
  if (!name) return undefined;
  // Its port is that of TLS also where there is none.
  const number = port ?? (ssl === false ? 443 : undefined);
  return number === undefined ? String(name) : `${String(name)}:${String(number)}`;
}

/** Older clients have a placeholder until they know. */
function projectOf(id: unknown): unknown {
  return id === "{{projectId}}" ? undefined : id;
}

/** Headers may decide who asks. The one that tells an emulator so is the client's own. */
function refuseHeaders({ customHeaders, ssl }: Options): void {
  for (const [name, value] of Object.entries((customHeaders ?? {}) as Options)) {
    const ofEmulators = ssl === false && name === "Authorization" && value === "Bearer owner";
    if (!ofEmulators) throw notAdopted(`customHeaders.${name}`);
  }
}

/** What a `GoogleAuth` or `AuthClient` puts into a request of this client. It keeps its token itself. */
async function tokenOf(source: unknown, settings: Options): Promise<unknown> {
  const { getRequestHeaders } = source as { getRequestHeaders?(url: string): Promise<Headers | Options> };
  if (typeof getRequestHeaders !== "function") return undefined;
  const url = `https://${hostOf(settings) ?? "firestore.googleapis.com"}/google.firestore.v1.Firestore`;
  const headers = await getRequestHeaders.call(source, url);
  const header = headers instanceof Headers ? headers.get("authorization") : (headers.Authorization ?? headers.authorization);
  return /^Bearer (.+)$/i.exec(String(header))?.[1];
}

function isObject(value: unknown): value is Options {
  return typeof value === "object" && value !== null;
}
