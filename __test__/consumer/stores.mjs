// The servers that the examples talk to, and the examples that a run can't try.
import { isLeftOut, skipWithout } from '../support/needs.mjs'
import { FirestoreEmulator, PostgresServer, RedisServer } from '../support/servers.mjs'

const START = { redis: () => RedisServer.start(), postgres: () => PostgresServer.shared(), firestore: () => FirestoreEmulator.shared() }

const storeOf = (example) => Object.keys(START).find((store) => example.includes(store))

/** What a test of an example gets as `skip`. */
export function skipExample(example) {
  const store = storeOf(example)
  if (store === undefined) return false
  return skipWithout(store)
}

/** Starts what is not left out; answers what the examples find in their environment. */
export async function startStores() {
  const servers = {}
  for (const [store, start] of Object.entries(START)) if (!isLeftOut(store)) servers[store] = await start()
  return {
    env: {
      REDIS_URL: servers.redis?.url ?? '',
      POSTGRES_URL: servers.postgres?.url ?? '',
      FIRESTORE_EMULATOR_HOST: servers.firestore?.host ?? '',
      SYNCGUARD_URL: ''
    },
    stop: () => Promise.all(Object.values(servers).map((server) => server.stop()))
  }
}
