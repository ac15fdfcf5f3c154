// What lookups answer, and what they hide.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attachRawData, getById, getByIdRaw, getByKey, getByKeyRaw, hasFence, hashKey, owns, sanitizeLockInfo } from 'syncguard/common'
import { createMemoryBackend } from '../support/javascript-backend.mjs'

const raw = { key: 'k', lockId: 'A'.repeat(22), expiresAtMs: 2, acquiredAtMs: 1, fence: '000000000000001' }
const fenced = { supportsFencing: true, timeAuthority: 'client' }

test('sanitizeLockInfo: hashes in place of the secrets, a fence where there are fences', () => {
  const info = { keyHash: hashKey(raw.key), lockIdHash: hashKey(raw.lockId), expiresAtMs: 2, acquiredAtMs: 1 }
  assert.deepEqual(sanitizeLockInfo(raw, fenced), { ...info, fence: raw.fence })
  assert.deepEqual(sanitizeLockInfo(raw, { ...fenced, supportsFencing: false }), info)
})

test('attachRawData: under a symbol that JSON and printing pass over', () => {
  const info = sanitizeLockInfo(raw, fenced)
  assert.equal(attachRawData(info, raw), info)
  assert.deepEqual(info[Symbol.for('syncguard.rawData')], { key: 'k', lockId: raw.lockId })
  assert.ok(!JSON.stringify(info).includes(raw.lockId))
  assert.deepEqual(Object.keys(info), ['keyHash', 'lockIdHash', 'expiresAtMs', 'acquiredAtMs', 'fence'])
})

test('getByKey, getById and their raw forms', async () => {
  const backend = createMemoryBackend()
  assert.equal(await getByKey(backend, 'k'), null)
  assert.equal(await getByKeyRaw(backend, 'k'), null)
  const { lockId, fence } = await backend.acquire({ key: 'k', ttlMs: 1000 })
  for (const info of [await getByKey(backend, 'k'), await getById(backend, lockId)]) {
    assert.equal(info.fence, fence)
    assert.equal(info.keyHash, hashKey('k'))
    assert.ok(!('key' in info) && !('lockId' in info))
  }
  for (const info of [await getByKeyRaw(backend, 'k'), await getByIdRaw(backend, lockId)]) {
    assert.deepEqual([info.key, info.lockId, info.fence], ['k', lockId, fence])
  }
  assert.equal(await owns(backend, lockId), true)
  assert.equal(await owns(backend, 'B'.repeat(22)), false)
})

test('a backend that attaches no raw data: texts that say so', async () => {
  const info = sanitizeLockInfo(raw, fenced)
  const backend = { lookup: async () => ({ ...info }) }
  assert.deepEqual(await getByKeyRaw(backend, 'mine'), { ...info, key: 'mine', lockId: '[backend does not provide raw lockId]' })
  assert.deepEqual(await getByIdRaw(backend, 'id'), { ...info, key: '[backend does not provide raw key]', lockId: 'id' })
})

test('the signal is passed on, nothing else', async () => {
  const seen = []
  const backend = { lookup: async (opts) => (seen.push(opts), null) }
  const { signal } = new AbortController()
  await getByKey(backend, 'k', { signal, other: 1 })
  await getById(backend, 'l')
  assert.deepEqual(seen, [{ key: 'k', signal }, { lockId: 'l' }])
})

test('hasFence', () => {
  assert.equal(hasFence({ ok: true, lockId: 'l', expiresAtMs: 1, fence: '000000000000001' }), true)
  assert.equal(hasFence({ ok: true, lockId: 'l', expiresAtMs: 1 }), false)
  assert.equal(hasFence({ ok: false, reason: 'locked' }), false)
})
