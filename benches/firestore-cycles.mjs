// acquire + release cycles on the Firestore emulator: syncguard against the official client doing the classic thing, a
// transaction that reads lock and counter and writes both, and one that finds the lock by its id and deletes it: one at
// a time, and with 8 and 32 in flight on distinct keys. The emulator is no evidence of how the service behaves.
import { randomBytes } from 'node:crypto'
import { Firestore } from '@google-cloud/firestore'
import { createFirestoreBackend } from 'syncguard/firestore'
import { FirestoreEmulator } from '../__test__/support/firestore-emulator.mjs'
import { inTurns, latency, median, round, table, throughput } from './support/measure.mjs'

const TTL_MS = 30_000
const CLASSIC = 'transactions'

// The official client would look for the metadata server of a cloud.
process.env.METADATA_SERVER_DETECTION = 'none'
const emulator = await FirestoreEmulator.start()
const backend = createFirestoreBackend({ projectId: 'bench-syncguard', host: emulator.host, ssl: false })
const firestore = new Firestore({ projectId: 'bench-classic', host: emulator.host, ssl: false })
const locks = firestore.collection('locks')
const fences = firestore.collection('fence_counters')

async function take(key) {
  const lockId = randomBytes(16).toString('base64url')
  const taken = await firestore.runTransaction(async (transaction) => {
    const [lock, counter] = await transaction.getAll(locks.doc(key), fences.doc(key))
    const now = Date.now()
    if (lock.exists && lock.get('expiresAtMs') > now - 1000) return false
    const fence = String(Number(counter.get('fence') ?? 0) + 1).padStart(15, '0')
    transaction.set(locks.doc(key), { lockId, expiresAtMs: now + TTL_MS, acquiredAtMs: now, key, fence })
    transaction.set(fences.doc(key), { fence, keyDebug: key })
    return true
  })
  return taken && lockId
}

const give = (lockId) =>
  firestore.runTransaction(async (transaction) => {
    const { docs } = await transaction.get(locks.where('lockId', '==', lockId).limit(1))
    if (docs.length === 0 || docs[0].get('expiresAtMs') <= Date.now() - 1000) return false
    transaction.delete(docs[0].ref)
    return true
  })

const contenders = [
  {
    name: CLASSIC,
    cycle: async (lane) => {
      const lockId = await take(`lane:${lane}`)
      if (!lockId || !(await give(lockId))) throw new Error('the transactions lost their lock')
    }
  },
  {
    name: 'syncguard',
    cycle: async (lane) => {
      const held = await backend.acquire({ key: `lane:${lane}`, ttlMs: TTL_MS })
      const released = await held.release()
      if (!held.ok || !released.ok) throw new Error('syncguard lost its lock')
    }
  }
]

const alone = await inTurns(contenders, 5, ({ cycle }) => latency(cycle, { count: 400, ms: 2000 }))
const busy = new Map()
for (const inFlight of [8, 32]) {
  busy.set(inFlight, await inTurns(contenders, 3, ({ cycle }) => throughput(cycle, { inFlight, ms: 3000 })))
}
const perSecond = (inFlight, name) => median(busy.get(inFlight).get(name).map((result) => result.perSecond))
table(
  'Firestore emulator: cycles per second (larger is better)',
  contenders.map(({ name }) => ({
    contender: name,
    'alone, ms': round(median(alone.get(name)) / 1000),
    'cycles/s': round(1e6 / median(alone.get(name)), 1),
    ratio: round(median(alone.get(CLASSIC)) / median(alone.get(name)), 1),
    '8 in flight': round(perSecond(8, name), 1),
    'ratio ': round(perSecond(8, name) / perSecond(8, CLASSIC), 1),
    '32 in flight': round(perSecond(32, name), 1),
    'ratio  ': round(perSecond(32, name) / perSecond(32, CLASSIC), 1)
  }))
)
await backend.close()
await firestore.terminate()
await emulator.stop()
process.exit(0)
