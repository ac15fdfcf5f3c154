// Clients of Firestore: that of @google-cloud/firestore, which firebase-admin hands out as well, told by what it has,
// since neither is a dependency.

import { factsOf, isPlainObject } from "../entries.js";
import type { Resolved, TargetKind } from "./target.js";
import { notAdopted, refuseSettings } from "./tls.js";

type Options = Record<string, unknown>;

export const firestore: TargetKind = {
  kind: "firestore",
  schemes: ["firestore"],
  accepts: "a firestore: URL, an object of connection facts, or a client of @google-cloud/firestore",
  ownFacts: ["projectId", "databaseId", "keyFilename", "credentials"],
  passwordFact: "token",

  adopt(client) {
    const given = client as Options;
    const isClient = typeof given.collection === "function" && typeof given.runTransaction === "function";
    return isClient && isObject(given._settings) ? adopted(given, given._settings) : undefined;
  },

  facts(facts) {
    const { credentials, ...others } = facts;
    return isPlainObject(credentials) ? { ...others, ...keyPair(credentials) } : facts;
  },
};

function adopted(client: Options, settings: Options): Resolved {
  refuseSettings(settings, "authClient", "auth", "apiKey", "sslCreds");
  const { ssl, universeDomain } = settings;
  if (universeDomain !== undefined && universeDomain !== "googleapis.com") throw notAdopted("universeDomain");
  const credentials = isObject(settings.credentials) ? settings.credentials : {};
  return {
    target: factsOf({
      projectId: client._projectId ?? settings.projectId ?? credentials.project_id,
      databaseId: client._databaseId ?? settings.databaseId,
      host: hostOf(settings),
      ssl,
      // Without TLS the client takes its server for an emulator, and shows it nobody's credentials.
      ...(ssl !== false && { ...keyPair(credentials), keyFilename: settings.keyFilename ?? settings.keyFile }),
    }),
  };
}

/** What the client made of its settings `host`, `apiEndpoint` and `port`. */
function hostOf(settings: Options): unknown {
  const name = settings.servicePath ?? settings.apiEndpoint;
  return typeof name === "string" && settings.port !== undefined ? `${name}:${String(settings.port)}` : name;
}

/**
 * A service account's; Google's own file of one has other fields beside them, which say nothing here.
 * @throws LockError InvalidArgument for another kind of account.
 */
function keyPair(credentials: Options): Options {
  const { type, client_email: email, private_key: key } = credentials;
  if (type !== undefined && type !== "service_account") {
    throw notAdopted("credentials (of another type than service_account)", "name their file as keyFilename instead");
  }
  return { "credentials.client_email": email, "credentials.private_key": key };
}

function isObject(value: unknown): value is Options {
  return typeof value === "object" && value !== null;
}
