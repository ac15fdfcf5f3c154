// acquire + release cycles on the Firestore emulator: syncguard against the official client doing the classic
// transaction (get both documents, write both; find by lock id, delete), one at a time and with 8 in flight on distinct
// keys. The emulator is not the service: what counts is the ratio, of requests made and of conflicts avoided.
import { randomBytes } from 'node:crypto'
import { Firestore } from '@google-cloud/firestore'
import { createFirestoreBackend } from 'syncguard/firestore'
import { FirestoreEmulator } from '../__test__/support/firestore-emulator.mjs'
import { inTurns, latency, median, round, table, throughput } from './support/measure.mjs'

const TTL_MS = 30_000
const PEER = '@google-cloud/firestore'
// The official client would look for the metadata server of a cloud.
process.env.METADATA_SERVER_DETECTION = 'none'
const emulator = await FirestoreEmulator.start()
const client = new Firestore({ projectId: 'bench', host: emulator.host, ssl: false })
const backend = createFirestoreBackend({ projectId: 'bench', host: emulator.host, ssl: false, databaseId: '(default)' }, { operationTimeoutMs: 60_000 })
const [locks, fences] = [client.collection('classic_locks'), client.collection('classic_fences')]

const ABORTED = 10

/** A transaction that others kept from its locks is begun anew, as its user would have to; the time counts. */
async function transact(work) {
  for (;;) {
    try {
      return await client.runTransaction(work)
    } catch (error) {
      if (error.code !== ABORTED) throw error
    }
  }
}

const contenders = [
  {
    name: 'syncguard',
    cycle: async (lane) => {
      const held = await backend.acquire({ key: `lane:${lane}`, ttlMs: TTL_MS })
      const released = await held.release()
      if (!held.ok || !released.ok) throw new Error('syncguard lost its lock')
    }
  },
  {
    name: PEER,
    cycle: async (lane) => {
      const lockId = randomBytes(16).toString('base64url')
      const [lock, fence] = [locks.doc(`lane:${lane}`), fences.doc(`lane:${lane}`)]
      await transact(async (transaction) => {
        const [held, counter] = await transaction.getAll(lock, fence)
        const now = Date.now()
        if (held.exists && held.get('expiresAtMs') > now) throw new Error('the classic transaction lost its lock')
        const next = (counter.exists ? counter.get('fence') : 0) + 1
        transaction.set(fence, { fence: next })
        transaction.set(lock, { lockId, expiresAtMs: now + TTL_MS, acquiredAtMs: now, key: `lane:${lane}`, fence: next })
      })
      await transact(async (transaction) => {
        const found = await transaction.get(locks.where('lockId', '==', lockId).limit(1))
        for (const document of found.docs) transaction.delete(document.ref)
      })
    }
  }
]

const alone = await inTurns(contenders, 3, ({ cycle }) => latency(cycle, { count: 200, ms: 3000 }))
const busy = await inTurns(contenders, 3, ({ cycle }) => throughput(cycle, { inFlight: 8, ms: 3000 }))
const us = (name) => median(alone.get(name))
const perSecond = (name) => median(busy.get(name).map((result) => result.perSecond))
table(
  'Firestore emulator: one at a time (median), and 8 in flight on distinct keys (cycles per second)',
  contenders.map(({ name }) => ({
    contender: name,
    'alone, ms': round(us(name) / 1000),
    'times as fast': round(us(PEER) / us(name)),
    '8 in flight': round(perSecond(name), 1),
    'times as many': round(perSecond(name) / perSecond(PEER))
  }))
)
await backend.close()
await client.terminate()
await emulator.stop()
process.exit(0)
