// The pure helpers against the shared vectors, which the Rust side is checked against as well.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as common from 'syncguard/common'

const vectors = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8'))
const invalid = { name: 'LockError', code: 'InvalidArgument' }

test('the constants', () => {
  // biome-ignore lint/performance/noDynamicNamespaceImportAccess: whatever the vectors name is asked for, and nothing is bundled here.
  for (const [name, value] of Object.entries(vectors('constants'))) assert.deepEqual(common[name], value, name)
  assert.ok(Object.isFrozen(common.LOCK_DEFAULTS))
})

test('keys: NFC form, hash and storage keys', () => {
  const { BACKEND_LIMITS, RESERVE_BYTES } = common
  const { keys } = vectors('keys')
  assert.ok(keys.length > 10)
  const postgres = (key) => common.makeStorageKey('', key, BACKEND_LIMITS.POSTGRES, RESERVE_BYTES.POSTGRES)
  for (const { key, normalized, hashKey, postgres: expected } of keys) {
    assert.equal(common.normalizeAndValidateKey(key), normalized)
    assert.equal(common.hashKey(key), hashKey)
    assert.equal(postgres(normalized), expected.lock)
    assert.equal(postgres(`fence:${expected.lock}`), expected.fence)
  }
})

test('storage keys', () => {
  const { cases } = vectors('storage-keys')
  assert.ok(cases.length > 3)
  for (const { prefix, key, limit, reserve, result, error } of cases) {
    const make = () => common.makeStorageKey(prefix, key, limit, reserve)
    if (error !== undefined) assert.throws(make, { name: 'LockError', code: error })
    else assert.equal(make(), result)
  }
})

for (const key of ['', 'x'.repeat(513), 'é'.repeat(257), 'a\0b', '\ud800', '\udc00x', 5, null, undefined, {}, ['a'], Symbol('a')]) {
  test(`no key: ${typeof key === 'string' ? JSON.stringify(key.slice(0, 8)) : String(typeof key)}`, () => {
    assert.throws(() => common.normalizeAndValidateKey(key), invalid)
  })
}

test('lock ids', () => {
  const ids = new Set(Array.from({ length: 1000 }, () => common.generateLockId()))
  assert.equal(ids.size, 1000)
  for (const id of ids) {
    assert.match(id, /^[A-Za-z0-9_-]{22}$/)
    assert.equal(common.validateLockId(id), undefined)
  }
  for (const bad of ['', 'A'.repeat(21), 'A'.repeat(23), `${'A'.repeat(21)}=`, `${'A'.repeat(21)}\n`, 22, null, undefined]) {
    assert.throws(() => common.validateLockId(bad), invalid)
  }
})

test('isLive: expiresAtMs > nowMs - toleranceMs', () => {
  assert.equal(common.isLive(1000, 1999, 1000), true)
  assert.equal(common.isLive(1000, 2000, 1000), false)
  assert.equal(common.isLive(1000, 1000, 0), false)
  assert.equal(common.isLive(Number.NaN, 0, 0), false)
})

test('calculateRedisServerTimeMs rounds down', () => {
  assert.equal(common.calculateRedisServerTimeMs(['1763683200', '123999']), 1763683200123)
  assert.throws(() => common.calculateRedisServerTimeMs(['x', '1']), invalid)
  assert.throws(() => common.calculateRedisServerTimeMs(undefined), invalid)
})

test('formatFence: 15 digits', () => {
  assert.equal(common.formatFence(1), '000000000000001')
  assert.equal(common.formatFence(1.9), '000000000000001')
  assert.equal(common.formatFence(17636832000000n), '017636832000000')
  assert.equal(common.formatFence(999999999999999n), '999999999999999')
  for (const bad of [-1, -1n, 1e15, 10n ** 15n, 10n ** 30n, Number.NaN, Infinity, '1', undefined]) {
    assert.throws(() => common.formatFence(bad), invalid)
  }
})

test('logFenceWarning: one line that names the fence without leading zeros, and the key', (t) => {
  const warn = t.mock.method(console, 'warn', () => {})
  common.logFenceWarning('000000123456789', 'orders:7')
  common.logFenceWarning(123456789, 'orders:7')
  common.logFenceWarning('000000000000000', 'two\nlines')
  const texts = warn.mock.calls.map(({ arguments: [text] }) => text)
  assert.equal(texts.length, 3)
  for (const text of texts.slice(0, 2)) assert.match(text, /^\[SyncGuard\] .*fence=123456789 .*orders:7/)
  assert.match(texts[2], /^\[SyncGuard\] .*fence=0 [^\n]*$/)
})

test('mergeBackendConfig and mergeAcquisitionConfig fill in the defaults', () => {
  assert.deepEqual(common.mergeBackendConfig({}), { ttlMs: 30000 })
  assert.deepEqual(common.mergeBackendConfig({ ttlMs: 5, other: 1 }), { ttlMs: 5 })
  assert.throws(() => common.mergeBackendConfig({ ttlMs: 0 }), invalid)
  assert.deepEqual(common.mergeAcquisitionConfig(), { ...common.LOCK_DEFAULTS })
  const { signal } = new AbortController()
  const merged = common.mergeAcquisitionConfig({ maxRetries: 0, backoff: 'fixed', signal, wait: 'poll', other: 1 })
  assert.deepEqual(merged, { ...common.LOCK_DEFAULTS, maxRetries: 0, backoff: 'fixed', signal })
  assert.equal(merged.signal, signal)
  for (const bad of [{ maxRetries: -1 }, { timeoutMs: 1.5 }, { jitter: 'some' }, { retryDelayMs: '5' }, { signal: 5 }, 5, []]) {
    assert.throws(() => common.mergeAcquisitionConfig(bad), invalid)
  }
})

test('options are read as own properties only', () => {
  Object.prototype.maxRetries = 99
  Object.prototype.ttlMs = 77
  try {
    assert.equal(common.mergeAcquisitionConfig({}).maxRetries, 10)
    assert.equal(common.mergeBackendConfig({}).ttlMs, 30000)
  } finally {
    delete Object.prototype.maxRetries
    delete Object.prototype.ttlMs
  }
})

test('checkAborted', () => {
  common.checkAborted()
  common.checkAborted(new AbortController().signal)
  const reason = new Error('why')
  assert.throws(
    () => common.checkAborted(AbortSignal.abort(reason)),
    (error) => {
      return error instanceof common.LockError && error.code === 'Aborted' && error.cause === reason
    }
  )
})

test('delay resolves with nothing, also for what setTimeout would round to 1', async () => {
  assert.equal(await common.delay(1), undefined)
  await common.delay(0)
  await common.delay(-5)
})
