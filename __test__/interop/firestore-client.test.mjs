// Firestore beside its official client: whose settings are adopted, whose documents are read, whose transactions wait.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { Firestore } from '@google-cloud/firestore'
import { createBackend, getByKeyRaw } from 'syncguard'
import { createFirestoreBackend } from 'syncguard/firestore'
import { isGrant, isRefusal, rejectsWith, tellsNoSecret, throwsWith } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { skipWithout } from '../support/needs.mjs'
import { FirestoreEmulator } from '../support/servers.mjs'
import { deferred, sleep } from '../support/wait.mjs'

describe('firestore', { skip: skipWithout('firestore') }, () => {
  const projectId = `interop-${process.pid}-${Date.now()}`
  let emulator, client, backend

  before(async () => {
    emulator = await FirestoreEmulator.shared()
    client = new Firestore({ projectId, host: emulator.host, ssl: false })
    // A Java that has just begun takes its time.
    backend = createFirestoreBackend(client, { operationTimeoutMs: 60_000 })
    await backend.isLocked({ key: 'warm' })
  })
  after(async () => {
    await backend?.close()
    await client?.terminate()
    await emulator?.stop()
  })

  test("the official client's settings are adopted, by its entry and by the root", async () => {
    const key = uniqueKey()
    const held = isGrant(await backend.acquire({ key, ttlMs: 30_000 }))
    const document = (await client.collection('locks').doc(key).get()).data()
    assert.deepEqual(document, { lockId: held.lockId, expiresAtMs: held.expiresAtMs, acquiredAtMs: held.expiresAtMs - 30_000, key, fence: held.fence })
    const atRoot = await createBackend(client)
    assert.equal(atRoot.capabilities.backend, 'firestore')
    isRefusal(await atRoot.acquire({ key, ttlMs: 1000 }))
    await atRoot.close()
    await client.collection('locks').doc(key).get() // Nobody closed it.
    assert.deepEqual(await held.release(), { ok: true })
  })

  test('a database of its own name is another one', async () => {
    const key = uniqueKey()
    const held = isGrant(await backend.acquire({ key, ttlMs: 30_000 }))
    const second = createFirestoreBackend(new Firestore({ projectId, databaseId: 'second', host: emulator.host, ssl: false }))
    assert.equal((await second.acquire({ key, ttlMs: 1000 })).ok, true)
    await second.close()
    await held.release()
  })

  test('a commit waits for the transaction of an original process, and no conflict reaches the user', async () => {
    const key = uniqueKey()
    const [read, go] = [deferred(), deferred()]
    const [lock, fence] = [client.collection('locks').doc(key), client.collection('fence_counters').doc(`fence:${key}`)]
    const record = { lockId: 'A'.repeat(22), expiresAtMs: Date.now() + 60_000, acquiredAtMs: Date.now(), key, fence: '000000000000001' }
    const original = client.runTransaction(async (transaction) => {
      await transaction.getAll(lock, fence)
      read.resolve()
      await go.promise
      transaction.set(lock, record)
      transaction.set(fence, { fence: record.fence, keyDebug: key })
    })
    await read.promise
    const ours = backend.acquire({ key, ttlMs: 30_000 })
    await sleep(100)
    go.resolve()
    const [theirs, result] = await Promise.allSettled([original, ours])
    assert.equal(result.status, 'fulfilled', String(result.reason))
    const stored = await getByKeyRaw(backend, key)
    assert.equal(stored.lockId, result.value.ok ? result.value.lockId : record.lockId)
    // Whoever came second saw the first: the transaction overwrites nothing that it has not read.
    assert.ok(theirs.status === 'rejected' || !result.value.ok || result.value.fence > record.fence)
  })

  test('FIRESTORE_EMULATOR_HOST is honoured', () => {
    const script = `
      import { createLock } from 'syncguard'
      const lock = await createLock('firestore://${projectId}')
      console.log(await lock(() => 'inside', { key: 'by environment' }))
      await lock.close()`
    const env = { ...process.env, FIRESTORE_EMULATOR_HOST: emulator.host, GOOGLE_APPLICATION_CREDENTIALS: '/nowhere' }
    assert.equal(execFileSync(process.execPath, ['--input-type=module', '-e', script], { env, encoding: 'utf8' }).trim(), 'inside')
  })

  test('a token function is asked at the first request, and its token kept', async () => {
    let asked = 0
    const token = async () => (asked++, 'owner') // What makes an administrator of whoever asks the emulator.
    const own = createFirestoreBackend({ projectId, host: emulator.host, ssl: false, token })
    assert.equal(asked, 0)
    for (let i = 0; i < 3; i++) await isGrant(await own.acquire({ key: uniqueKey(), ttlMs: 1000 })).release()
    assert.equal(asked, 1)
    await own.close()
  })

  test('credentials that are none are told before anything is sent, and without a word of them', async () => {
    const failing = createFirestoreBackend({ projectId, host: emulator.host, ssl: false, token: () => Promise.reject(new Error('canary')) })
    const refused = await rejectsWith(failing.acquire({ key: 'a', ttlMs: 1000 }), 'AuthFailed')
    assert.equal(refused.context.outcome, 'not-applied')
    tellsNoSecret(`${refused.stack} ${refused.cause}`, 'canary')
    await failing.close()

    const credentials = { client_email: 'me@example.com', private_key: 'canary' }
    const pair = createFirestoreBackend({ projectId, credentials })
    const malformed = await rejectsWith(pair.acquire({ key: 'a', ttlMs: 1000 }), 'InvalidArgument')
    tellsNoSecret(`${malformed.stack} ${malformed.cause}`, 'canary')
    await pair.close()

    const missing = createFirestoreBackend({ projectId, keyFilename: '/nowhere/key.json' })
    assert.match((await rejectsWith(missing.acquire({ key: 'a', ttlMs: 1000 }), 'AuthFailed')).message, /nowhere/)
    await missing.close()
  })

  test('half a pair of credentials is named', () => {
    for (const credentials of [{}, { client_email: 'e' }, { private_key: 'canary' }, 'canary', null]) {
      const error = throwsWith(() => createFirestoreBackend({ projectId, credentials }), 'InvalidArgument')
      assert.match(error.message, /credentials/)
      tellsNoSecret(error.message, 'canary')
    }
  })

  test('credentials never travel in clear', () => {
    const error = throwsWith(() => createFirestoreBackend({ projectId, host: 'example.com', ssl: false, token: 't' }), 'InvalidArgument')
    assert.match(error.message, /ssl/)
  })
})
