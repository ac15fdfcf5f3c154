// Sections 3 and 8: hostile keys work and stay distinct; storage keys are those of the vectors.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { getByKeyRaw } from 'syncguard'
import { isGrant, isRefusal } from '../support/assertions.mjs'
import { skipWithout } from '../support/needs.mjs'
import { eachBackend } from './backends.mjs'
import { FirestoreFixture } from './fixtures/firestore.mjs'
import { PostgresFixture } from './fixtures/postgres.mjs'
import { RedisFixture } from './fixtures/redis.mjs'

const hostile = [
  ...['fence:x', 'fence:syncguard:x', 'syncguard:x', 'x', 'id:x', 'fence:', 'id:', '{a}', '}{', '{}', 'a:b', 'a', ':', '::', 'a:', '%2F', '/', '.', '..'],
  ...['__x__', '__', 'a/b', '../../etc/passwd', "'; DROP TABLE x; --", '"', '\\', '\n', '\t', ' ', '  ', '*', '?', '[a]', '$1', '\u0001', '\u007f'],
  ...['🔒', '👩‍👩‍👧', 'é', 'e', 'ß', 'SS', 'İ', 'i', '\u202e', '\ufeff', 'null', 'undefined', '__proto__', 'constructor', 'toString', 'CON', 'a.', 'a '],
  ...['k'.repeat(512), `${'k'.repeat(511)}l`, '🔒'.repeat(128), `../${'x'.repeat(500)}`]
]

eachBackend((fixture) => {
  test('hostile keys work and stay distinct', async () => {
    const [backend, other] = [fixture.open(), fixture.open()]
    const handles = []
    for (const key of hostile) handles.push(isGrant(await backend.acquire({ key, ttlMs: 60_000 })))
    for (const [i, key] of hostile.entries()) {
      isRefusal(await other.acquire({ key, ttlMs: 60_000 }))
      const raw = await getByKeyRaw(other, key)
      assert.deepEqual([raw.key, raw.lockId], [key, handles[i].lockId], JSON.stringify(key))
    }
    for (const [i, key] of hostile.entries()) {
      assert.deepEqual(await other.release({ lockId: handles[i].lockId }), { ok: true }, JSON.stringify(key))
      assert.equal(await backend.isLocked({ key }), false)
      const still = hostile[i + 1]
      if (still !== undefined) assert.equal(await backend.isLocked({ key: still }), true, `${JSON.stringify(key)} freed ${JSON.stringify(still)}`)
    }
  })

  test('a key is its NFC form', async () => {
    const backend = fixture.open()
    const held = isGrant(await backend.acquire({ key: 'cafe\u0301', ttlMs: 30_000 }))
    isRefusal(await backend.acquire({ key: 'caf\u00e9', ttlMs: 30_000 }))
    assert.equal((await getByKeyRaw(backend, 'cafe\u0301')).key, 'caf\u00e9')
    await held.release()
  })
})

const vectors = JSON.parse(readFileSync(new URL('../vectors/keys.json', import.meta.url), 'utf8')).keys

test('Redis: a real acquire uses exactly the storage keys of the vectors', { skip: skipWithout('redis') }, async (t) => {
  const fixture = new RedisFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const { raw } = fixture.server
  const backends = new Map()
  for (const { key, redis } of vectors) {
    for (const [keyPrefix, { lock, fence }] of Object.entries(redis)) {
      if (!backends.has(keyPrefix)) backends.set(keyPrefix, fixture.open({ keyPrefix }))
      const held = isGrant(await backends.get(keyPrefix).acquire({ key, ttlMs: 60_000 }))
      const stored = await raw.get(lock)
      assert.ok(stored?.includes(held.lockId), `${JSON.stringify(key)} under ${keyPrefix} is not at ${lock}`)
      assert.equal(String(await raw.get(fence)).padStart(15, '0'), held.fence, fence)
      await held.release()
      assert.equal(await raw.exists(lock), 0)
      await raw.flushall()
    }
  }
})

test('PostgreSQL: a real acquire uses exactly the storage keys of the vectors', { skip: skipWithout('postgres') }, async (t) => {
  const fixture = new PostgresFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const backend = fixture.open()
  for (const { key, normalized, postgres } of vectors) {
    const held = isGrant(await backend.acquire({ key, ttlMs: 60_000 }))
    const [row] = await fixture.server.query(`select * from ${fixture.options.tableName} where key = $1`, [postgres.lock])
    assert.equal(row?.lock_id, held.lockId, JSON.stringify(key))
    assert.equal(row.user_key, normalized)
    const [counter] = await fixture.server.query(`select * from ${fixture.options.fenceTableName} where fence_key = $1`, [postgres.fence])
    assert.equal(String(counter.fence).padStart(15, '0'), held.fence)
    await held.release()
  }
})

test('Firestore: a real acquire uses exactly the document ids of the vectors', { skip: skipWithout('firestore') }, async (t) => {
  const fixture = new FirestoreFixture()
  await fixture.start()
  t.after(() => fixture.stop())
  const backend = fixture.open()
  for (const { key, normalized, firestore } of vectors) {
    const held = isGrant(await backend.acquire({ key, ttlMs: 60_000 }))
    const lock = await fixture.database.get('locks', firestore.lock)
    assert.equal(lock?.lockId.stringValue, held.lockId, JSON.stringify(key))
    assert.equal(lock.key.stringValue, normalized)
    const counter = await fixture.database.get('fence_counters', firestore.fence)
    assert.equal(counter?.fence.stringValue, held.fence)
    await held.release()
  }
})
