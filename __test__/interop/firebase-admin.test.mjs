// Firestore as most Node.js users have it: getFirestore() of firebase-admin, which brings a copy of the client of its own.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { cert, deleteApp, initializeApp } from 'firebase-admin/app'
import { getFirestore } from 'firebase-admin/firestore'
import { createBackend, getByKeyRaw, lock } from 'syncguard'
import { createFirestoreBackend, createLock } from 'syncguard/firestore'
import { isGrant, isRefusal, rejectsWith } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { skipWithout } from '../support/needs.mjs'
import { FirestoreEmulator } from '../support/servers.mjs'
import { deferred, sleep } from '../support/wait.mjs'

const apps = []
const app = (options) => {
  const made = initializeApp(options, `app-${apps.length}`)
  apps.push(made)
  return made
}
const account = (projectId) => ({
  project_id: projectId,
  client_email: 'me@of-account.iam.gserviceaccount.com',
  private_key: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' })
})
after(() => Promise.all(apps.map((each) => deleteApp(each))))

describe('firebase-admin over the emulator', { skip: skipWithout('firestore') }, () => {
  const projectId = `admin-${process.pid}-${Date.now()}`
  let emulator, client, backend

  /** FIRESTORE_EMULATOR_HOST as it is while `work` runs. */
  function emulated(work) {
    const before = process.env.FIRESTORE_EMULATOR_HOST
    process.env.FIRESTORE_EMULATOR_HOST = emulator.host
    try {
      return work()
    } finally {
      if (before === undefined) delete process.env.FIRESTORE_EMULATOR_HOST
      else process.env.FIRESTORE_EMULATOR_HOST = before
    }
  }

  before(async () => {
    emulator = await FirestoreEmulator.shared()
    client = emulated(() => getFirestore(app({ projectId })))
    // A Java that has just begun takes its time.
    backend = createFirestoreBackend(client, { operationTimeoutMs: 60_000 })
    await backend.isLocked({ key: 'warm' })
  })
  after(async () => {
    await backend?.close()
    await emulator?.stop()
  })

  test('it is a target of the entry and of the root, and reads our documents', async () => {
    const key = uniqueKey()
    const held = isGrant(await backend.acquire({ key, ttlMs: 30_000 }))
    const document = (await client.collection('locks').doc(key).get()).data()
    assert.deepEqual(document, { lockId: held.lockId, expiresAtMs: held.expiresAtMs, acquiredAtMs: held.expiresAtMs - 30_000, key, fence: held.fence })
    const counter = (await client.collection('fence_counters').doc(`fence:${key}`).get()).data()
    assert.deepEqual(counter, { fence: held.fence, keyDebug: key })
    const atRoot = await createBackend(client)
    assert.equal(atRoot.capabilities.backend, 'firestore')
    isRefusal(await atRoot.acquire({ key, ttlMs: 1000 }))
    await atRoot.close()
    const run = createLock(client)
    const waiting = run(({ fence }) => fence, { key })
    assert.deepEqual(await held.release(), { ok: true })
    assert.ok((await waiting) > held.fence)
    await run.close()
    assert.equal((await client.collection('locks').doc(key).get()).exists, false) // Nobody closed it.
  })

  test('a counter that may go carries a timestamp', async () => {
    const key = uniqueKey()
    const going = createFirestoreBackend(client, { fenceRetentionMs: 86_400_000 })
    const held = isGrant(await going.acquire({ key, ttlMs: 30_000 }))
    const { expireAt, ...others } = (await client.collection('fence_counters').doc(`fence:${key}`).get()).data()
    assert.deepEqual(others, { fence: held.fence, keyDebug: key })
    assert.equal(expireAt.toMillis(), Math.ceil(Number(held.fence) / 10) + 86_400_000)
    await held.release()
    await going.close()
  })

  test('settings() that were made before count, with and without FIRESTORE_EMULATOR_HOST', async () => {
    const late = getFirestore(app({ credential: cert(account(projectId)) }))
    late.settings({ host: emulator.host, ssl: false })
    const second = emulated(() => getFirestore(app({ projectId }), 'second'))
    second.settings({ ignoreUndefinedProperties: true })
    const key = uniqueKey()
    const held = isGrant(await backend.acquire({ key, ttlMs: 30_000 }))
    const [same, other] = [createFirestoreBackend(late), createFirestoreBackend(second)]
    isRefusal(await same.acquire({ key, ttlMs: 1000 }))
    const inSecond = isGrant(await other.acquire({ key, ttlMs: 30_000 }))
    assert.equal((await second.collection('locks').doc(key).get()).data().lockId, inSecond.lockId)
    assert.notEqual(inSecond.lockId, held.lockId)
    await Promise.all([same.close(), other.close(), held.release()])
  })

  /** A transaction of the original's kind: it has read the two documents, and ends when it is told. */
  async function transaction(key, write = () => {}) {
    const [read, go] = [deferred(), deferred()]
    const documents = [client.collection('locks').doc(key), client.collection('fence_counters').doc(`fence:${key}`)]
    const ended = client.runTransaction(async (transaction) => {
      await transaction.getAll(...documents)
      read.resolve()
      await go.promise
      write(transaction, ...documents)
    })
    ended.catch(() => {})
    await read.promise
    return {
      end: () => {
        go.resolve()
        return ended
      }
    }
  }

  test('a commit that waits for a transaction longer than operationTimeoutMs is unknown, and its lock id is found again', async () => {
    const [key, other] = [uniqueKey(), uniqueKey()]
    const hasty = createFirestoreBackend(client, { operationTimeoutMs: 400 })
    const [theirs, others] = [await transaction(key), await transaction(other)]
    const error = await rejectsWith(hasty.acquire({ key: other, ttlMs: 30_000 }), 'NetworkTimeout')
    assert.equal(error.context.outcome, 'unknown')
    await others.end()
    // The loop repeats the acquire under the same lock id until an answer comes.
    const acquisition = { timeoutMs: 20_000, maxRetries: 1000, retryDelayMs: 50, backoff: 'fixed' }
    const inside = lock(hasty, ({ lockId }) => getByKeyRaw(hasty, key).then((stored) => [lockId, stored.lockId]), { key, ttlMs: 30_000, acquisition })
    await sleep(1500)
    await theirs.end()
    const [ours, stored] = await inside
    assert.equal(ours, stored)
    await hasty.close()
  })

  test('processes with transactions beside ours: nobody overlaps, and no conflict reaches the user', async () => {
    const key = uniqueKey()
    const record = (lockId) => ({ lockId, expiresAtMs: Date.now() + 60_000, acquiredAtMs: Date.now(), key, fence: '000000000000001' })
    let holder
    const original = async (name) => {
      const document = client.collection('locks').doc(key)
      const lockId = name.padEnd(22, 'A')
      const won = await client
        .runTransaction(async (transaction) => {
          const { exists } = await transaction.get(document)
          if (!exists) transaction.set(document, record(lockId))
          return !exists
        })
        .catch(() => false)
      if (!won) return
      assert.equal(holder, undefined)
      holder = name
      await sleep(5)
      holder = undefined
      await document.delete()
    }
    const acquisition = { timeoutMs: 30_000, maxRetries: 10_000, retryDelayMs: 20, backoff: 'fixed' }
    const ours = async (name) => {
      await lock(
        backend,
        async () => {
          assert.equal(holder, undefined)
          holder = name
          await sleep(5)
          holder = undefined
        },
        { key, acquisition }
      )
    }
    const many = (count, work) => Array.from({ length: count }, (_, i) => work(`w${i}`))
    await Promise.all([
      ...many(2, async (name) => {
        for (let i = 0; i < 10; i++) await original(name)
      }),
      ...many(4, async (name) => {
        for (let i = 0; i < 5; i++) await ours(name)
      })
    ])
  })
})
