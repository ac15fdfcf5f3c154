// Section 8: what the stores hold, byte for byte, and what is made of records of others.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { generateLockId, getByKeyRaw } from 'syncguard'
import { isGrant, isRefusal, rejectsWith } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { skipWithout } from '../support/needs.mjs'
import { eachBackend, overNetwork } from './backends.mjs'
import { FirestoreFixture } from './fixtures/firestore.mjs'
import { PostgresFixture } from './fixtures/postgres.mjs'
import { RedisFixture } from './fixtures/redis.mjs'

const vector = JSON.parse(readFileSync(new URL('../vectors/records.json', import.meta.url), 'utf8'))

eachBackend(
  (fixture) => {
    for (const [what, content] of Object.entries(fixture.unreadable)) {
      test(`a record with ${what} is an Internal error: not free, not deleted`, async () => {
        const backend = fixture.open()
        const key = uniqueKey()
        await fixture.plantUnreadable(key, content)
        const before = await fixture.snapshot(key)
        for (const operation of [() => backend.acquire({ key, ttlMs: 1000 }), () => backend.isLocked({ key }), () => backend.lookup({ key })]) {
          const error = await rejectsWith(operation, 'Internal', what)
          assert.ok(error.message.includes(fixture.storageName(key)), `the storage key is named: ${error.message}`)
        }
        assert.equal(await fixture.snapshot(key), before)
      })
    }

    test('a live record of another process is honoured, an expired one taken over', async () => {
      const backend = fixture.open()
      const now = Date.now()
      const record = { lockId: generateLockId(), expiresAtMs: now + 30_000, acquiredAtMs: now, fence: '000000000000001' }
      const live = uniqueKey()
      await fixture.plant(live, { ...record, key: live }, 30_000)
      isRefusal(await backend.acquire({ key: live, ttlMs: 1000 }))
      assert.equal((await getByKeyRaw(backend, live)).fence, '000000000000001')
      assert.equal((await backend.extend({ lockId: record.lockId, ttlMs: 60_000 })).ok, true)
      assert.equal((await getByKeyRaw(backend, live)).fence, '000000000000001', 'extend keeps the fence')
      assert.deepEqual(await backend.release({ lockId: record.lockId }), { ok: true })
      assert.equal(await backend.isLocked({ key: live }), false)

      const expired = uniqueKey()
      const old = { ...record, lockId: generateLockId(), expiresAtMs: now - 1500, acquiredAtMs: now - 9000, key: expired }
      await fixture.plant(expired, old, 30_000)
      assert.equal(await backend.isLocked({ key: expired }), false)
      assert.deepEqual(await backend.extend({ lockId: old.lockId, ttlMs: 1000 }), { ok: false }, 'never revived')
      const held = isGrant(await backend.acquire({ key: expired, ttlMs: 30_000 }))
      assert.ok(held.fence > '000000000000001')
      assert.equal(await backend.lookup({ lockId: old.lockId }), null)
      assert.deepEqual(await backend.release({ lockId: old.lockId }), { ok: false })
    })

    test('a record is live until a second after its expiry, by the authority of the store', async () => {
      const backend = fixture.open()
      const now = Date.now()
      const key = uniqueKey()
      await fixture.plant(key, { lockId: generateLockId(), expiresAtMs: now - 300, acquiredAtMs: now - 9000, fence: '000000000000001', key }, 30_000)
      isRefusal(await backend.acquire({ key, ttlMs: 1000 }))
      assert.equal(await backend.isLocked({ key }), true)
    })
  },
  { where: overNetwork }
)

test('Redis: records are those of the vectors, in order and type', { skip: skipWithout('redis') }, async (t) => {
  const fixture = new RedisFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const { lock, index, fence } = vector.redis
  const { raw } = fixture.server
  const backend = fixture.open()
  for (const key of ['a', 'é"\\\n/ 🔒']) {
    const held = await backend.acquire({ key, ttlMs: 30_000 })
    const json = await raw.get(`syncguard:${key}`)
    const acquiredAtMs = held.expiresAtMs - 30_000
    const expected = { lockId: held.lockId, expiresAtMs: held.expiresAtMs, acquiredAtMs, key, fence: held.fence }
    assert.deepEqual(JSON.parse(json), expected)
    assert.deepEqual(Object.keys(JSON.parse(json)).sort(), Object.keys(lock.json).sort())
    const storedIndex = `syncguard:id:${held.lockId}`
    assert.equal(await raw.get(storedIndex), `syncguard:${key}`)
    assert.equal(await raw.get(`syncguard:fence:syncguard:${key}`), held.fence.replace(/^0+/, ''))
    for (const stored of [`syncguard:${key}`, storedIndex]) {
      assert.equal(await raw.type(stored), lock.type)
      const px = await raw.pttl(stored)
      assert.ok(px > lock.px - 2000 && px <= lock.px, `PX ${px} of ${stored}`)
    }
    assert.equal(await raw.pttl(`syncguard:fence:syncguard:${key}`), -1, 'fences do not expire')
    assert.equal(fence.px, null)
    assert.equal(index.type, 'string')

    await held.extend(90_000)
    const extended = JSON.parse(await raw.get(`syncguard:${key}`))
    assert.equal(extended.acquiredAtMs, acquiredAtMs, 'extend keeps acquiredAtMs')
    assert.ok(extended.expiresAtMs > held.expiresAtMs)
    for (const stored of [`syncguard:${key}`, storedIndex]) assert.ok((await raw.pttl(stored)) > 80_000)
    await held.release()
    assert.deepEqual(await raw.exists(`syncguard:${key}`, storedIndex), 0)
    assert.equal(await raw.exists(`syncguard:fence:syncguard:${key}`), 1, 'release keeps the fence')
  }
})

test("Redis: the vector's own record is read", { skip: skipWithout('redis') }, async (t) => {
  const fixture = new RedisFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const { lock, index, fence } = vector.redis
  const json = { ...lock.json, expiresAtMs: Date.now() + lock.px, acquiredAtMs: Date.now() }
  await fixture.server.raw.set(lock.key, JSON.stringify(json), 'PX', lock.px)
  await fixture.server.raw.set(index.key, index.value, 'PX', index.px)
  await fixture.server.raw.set(fence.key, fence.value)
  const backend = fixture.open()
  const info = await getByKeyRaw(backend, 'a')
  assert.deepEqual({ ...info, keyHash: 0, lockIdHash: 0 }, { ...json, keyHash: 0, lockIdHash: 0 })
  assert.deepEqual(await backend.release({ lockId: json.lockId }), { ok: true })
  assert.ok((await backend.acquire({ key: 'a', ttlMs: 1000 })).fence > lock.json.fence)
})

test('PostgreSQL: tables, columns, indexes and rows are those of the vectors', { skip: skipWithout('postgres') }, async (t) => {
  const fixture = new PostgresFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const { tableName, fenceTableName } = fixture.options
  const columns = async (table) =>
    (await fixture.server.query('select column_name, data_type, is_nullable from information_schema.columns where table_name = $1', [table]))
      .map(({ column_name, data_type, is_nullable }) => `${column_name} ${data_type} ${is_nullable}`)
      .sort()
  assert.deepEqual(await columns(tableName), ['acquired_at_ms bigint NO', 'expires_at_ms bigint NO', 'fence text NO', 'key text NO', 'lock_id text NO', 'user_key text NO'])
  assert.deepEqual(await columns(fenceTableName), ['fence bigint NO', 'fence_key text NO', 'key_debug text YES'])
  const indexes = (await fixture.server.query('select indexname, indexdef from pg_indexes where tablename = $1', [tableName])).map(
    ({ indexname, indexdef }) => `${indexname} ${/UNIQUE/.test(indexdef)} ${/\(.*\)/.exec(indexdef)[0]}`
  )
  assert.ok(indexes.includes(`idx_${tableName}_lock_id true (lock_id)`), indexes.join('; '))
  assert.ok(indexes.includes(`idx_${tableName}_expires false (expires_at_ms)`), indexes.join('; '))

  const held = await fixture.open().acquire({ key: 'a', ttlMs: 30_000 })
  const { lock } = await fixture.records('a')
  assert.deepEqual(lock, {
    ...vector.postgres.syncguard_locks,
    ...{ lock_id: held.lockId, fence: held.fence },
    ...{ expires_at_ms: String(held.expiresAtMs), acquired_at_ms: String(held.expiresAtMs - 30_000) }
  })
  const [counter] = await fixture.server.query(`select * from ${fenceTableName}`)
  assert.deepEqual(counter, { fence_key: 'fence:a', fence: String(Number(held.fence)), key_debug: 'a' })
})

test('PostgreSQL: setupSchema is idempotent and safe when many call it at once', { skip: skipWithout('postgres') }, async (t) => {
  const fixture = new PostgresFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const names = { tableName: `${fixture.options.tableName}_x`, fenceTableName: `${fixture.options.fenceTableName}_x` }
  await Promise.all(Array.from({ length: 8 }, () => fixture.module.setupSchema(fixture.server.url, names)))
  await fixture.module.setupSchema(fixture.server.url, names)
  isGrant(await fixture.open(names).acquire({ key: 'a', ttlMs: 1000 }))
})

test('Firestore: documents are those of the vectors, and are read with numbers of either type', { skip: skipWithout('firestore') }, async (t) => {
  const fixture = new FirestoreFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const backend = fixture.open()
  const held = await backend.acquire({ key: 'a', ttlMs: 30_000 })
  assert.deepEqual(await fixture.database.get('locks', 'a'), {
    ...vector.firestore['locks/a'],
    lockId: { stringValue: held.lockId },
    fence: { stringValue: held.fence },
    expiresAtMs: { integerValue: String(held.expiresAtMs) },
    acquiredAtMs: { integerValue: String(held.expiresAtMs - 30_000) }
  })
  const counter = await fixture.database.get('fence_counters', 'fence:a')
  assert.deepEqual(counter, { ...vector.firestore['fence_counters/fence:a'], fence: { stringValue: held.fence } })
  await held.release()
  assert.equal(await fixture.database.get('locks', 'a'), null)
  assert.deepEqual(await fixture.database.get('fence_counters', 'fence:a'), counter, 'release keeps the fence')

  const now = Date.now()
  for (const number of [(ms) => ({ integerValue: String(ms) }), (ms) => ({ doubleValue: ms })]) {
    const key = uniqueKey()
    const lease = { ...vector.firestore['locks/a'], key: { stringValue: key }, expiresAtMs: number(now + 30_000), acquiredAtMs: number(now) }
    await fixture.database.put('locks', key, { ...lease, lockId: { stringValue: generateLockId() } })
    const info = await getByKeyRaw(backend, key)
    assert.deepEqual([info.expiresAtMs, info.acquiredAtMs, info.fence], [now + 30_000, now, lease.fence.stringValue])
    assert.deepEqual(await backend.release({ lockId: info.lockId }), { ok: true })
  }
})

test('Firestore: the collections are those of the options', { skip: skipWithout('firestore') }, async (t) => {
  const fixture = new FirestoreFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const held = await fixture.open({ collection: 'apps/mine/leases', fenceCollection: 'counters' }).acquire({ key: 'a', ttlMs: 30_000 })
  assert.equal((await fixture.database.get('apps/mine/leases', 'a')).lockId.stringValue, held.lockId)
  assert.equal((await fixture.database.get('counters', 'fence:a')).fence.stringValue, held.fence)
  isGrant(await fixture.open().acquire({ key: 'a', ttlMs: 1000 }))
})
