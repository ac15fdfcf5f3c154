// The servers that the examples talk to, and the examples that a run can't try.
import { readFileSync } from 'node:fs'
import { isLeftOut, skipWithout } from '../support/needs.mjs'
import { FirestoreEmulator, PostgresServer, RedisServer } from '../support/servers.mjs'

const { exports } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
const START = { redis: () => RedisServer.start(), postgres: () => PostgresServer.shared(), firestore: () => FirestoreEmulator.shared() }

const storeOf = (example) => Object.keys(START).find((store) => example.includes(store))
const isMissing = (store) => exports[`./${store}`] === undefined

/** What a test of an example gets as `skip`. */
export function skipExample(example) {
  const store = storeOf(example)
  if (store === undefined) return false
  return isMissing(store) ? `the package has no entry ./${store} yet` : skipWithout(store)
}

/** Starts what is not left out; answers what the examples find in their environment. */
export async function startStores() {
  const servers = {}
  for (const [store, start] of Object.entries(START)) if (!isLeftOut(store) && !isMissing(store)) servers[store] = await start()
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
