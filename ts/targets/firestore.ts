// Clients of Firestore: `Firestore` of @google-cloud/firestore (and so of firebase-admin), told by what it has, since it
// is no dependency.

import { entriesOf, factsOf, isPlainObject, ownOf } from "../entries.js";
import { textSource, type Resolved, type TargetKind } from "./target.js";
import { notAdopted, refuseSettings } from "./tls.js";

type Options = Record<string, unknown>;

export const firestore: TargetKind = {
  kind: "firestore",
  schemes: ["firestore"],
  accepts: "a firestore: URL, an object of connection facts, or a client of @google-cloud/firestore or firebase-admin",
  ownFacts: ["projectId", "databaseId", "keyFilename", "credentials", "token"],
  passwordFact: "token",

  adopt(client) {
    const given = client as Options;
    const isFirestore = typeof given.runTransaction === "function" && typeof given.collectionGroup === "function";
    return isFirestore && isObject(given._settings) ? firestoreClient(given, given._settings) : undefined;
  },

  facts({ credentials, ...facts }) {
    if (credentials === undefined) return facts;
    return isPlainObject(credentials) ? { ...facts, ...pairOf(ownOf(credentials)) } : { ...facts, credentials };
  },
};

function firestoreClient(client: Options, settings: Options): Resolved {
  refuseSettings(settings, "apiKey", "sslCreds");
  for (const name of ["universeDomain", "universe_domain"]) {
    if (settings[name] !== "googleapis.com") refuseSettings(settings, name);
  }
  refuseHeaders(settings);
  const facts = {
    projectId: projectOf(client, settings),
    databaseId: client._databaseId ?? settings.databaseId,
    host: hostOf(settings),
    ssl: settings.ssl,
  };
  // Without TLS the client takes its server for an emulator, and shows it nobody's credentials.
  if (settings.ssl === false) return { target: factsOf(facts) };
  const source = settings.auth ?? settings.authClient;
  if (source) return { target: factsOf(facts), password: textSource(() => tokenOf(source, settings)) };
  return { target: [...factsOf(facts), ...entriesOf(credentialsOf(settings))] };
}

function credentialsOf({ credentials, keyFilename, keyFile }: Options): Options {
  if (!credentials) return { keyFilename: (keyFilename ?? keyFile) || undefined };
  return pairOf(credentials as Options);
}

/**
 * A service account's; Google's own file of one has other fields beside them, which say nothing here. What is missing
 * is told by Rust.
 * @throws LockError InvalidArgument for another kind of account.
 */
function pairOf({ type, client_email: email, private_key: key }: Options): Options {
  if (type !== undefined && type !== "service_account") {
    throw notAdopted("credentials (of another type than service_account)", "name their file as keyFilename instead");
  }
  return { "credentials.client_email": email ?? null, "credentials.private_key": key ?? null };
}

/** The client itself takes a host apart. */
function hostOf({ servicePath, apiEndpoint, port, ssl }: Options): string | undefined {
  const name = servicePath ?? apiEndpoint;
  if (!name) return undefined;
  // Its port is that of TLS also where there is none.
  const number = port ?? (ssl === false ? 443 : undefined);
  return number === undefined ? String(name) : `${String(name)}:${String(number)}`;
}

function projectOf(client: Options, { projectId, credentials }: Options): unknown {
  const id = client._projectId ?? projectId;
  // Older clients have a placeholder until they know.
  return id === undefined || id === "{{projectId}}" ? (credentials as Options | undefined)?.project_id : id;
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
