// Section 2, "What existing code matches on": each sentence of it that a test without a store can show.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as common from 'syncguard/common'
import { createFileBackend } from 'syncguard/file'
import { createRedisBackend } from 'syncguard/redis'
import { createMemoryBackend, gate } from '../support/javascript-backend.mjs'

const { lock, LockError } = common
const rejection = (promise) =>
  promise.then(
    () => assert.fail('resolved'),
    (error) => error
  )
const refused = async (promise, code, ...texts) => {
  const error = await rejection(promise)
  assert.equal(error.code, code)
  for (const text of texts) assert.ok(error.message.includes(text), error.message)
}

test('the texts of bad input', async () => {
  const backend = createFileBackend('/nowhere')
  const { normalizeAndValidateKey, validateLockId, makeStorageKey, mergeBackendConfig } = common
  const throwing = async (work) => work()
  for (const id of ['', 'short', 'A'.repeat(23), 5, undefined]) {
    await refused(
      throwing(() => validateLockId(id)),
      'InvalidArgument',
      'Invalid lockId format'
    )
    await refused(backend.release({ lockId: id }), 'InvalidArgument', 'Invalid lockId format')
    await refused(backend.extend({ lockId: id, ttlMs: 1 }), 'InvalidArgument', 'Invalid lockId format')
  }
  for (const key of ['x'.repeat(513), 'é'.repeat(257)]) {
    await refused(
      throwing(() => normalizeAndValidateKey(key)),
      'InvalidArgument',
      'exceeds maximum length of 512 bytes'
    )
    await refused(backend.isLocked({ key }), 'InvalidArgument', 'exceeds maximum length of 512 bytes')
  }
  await refused(
    throwing(() => normalizeAndValidateKey('')),
    'InvalidArgument',
    'Key must not be empty'
  )
  await refused(
    throwing(() => makeStorageKey('p', '', 1000, 26)),
    'InvalidArgument',
    'Key must not be empty'
  )
  await refused(backend.acquire({ key: '', ttlMs: 1000 }), 'InvalidArgument', 'Key must not be empty')
  for (const ttlMs of [0, -1, 1.5, Number.NaN, Infinity, 3_153_600_000_001, '1000', null]) {
    await refused(backend.acquire({ key: 'k', ttlMs }), 'InvalidArgument', 'ttlMs must be a positive integer')
    await refused(backend.extend({ lockId: 'A'.repeat(22), ttlMs }), 'InvalidArgument', 'ttlMs must be a positive integer')
    await refused(
      lock(backend, () => {}, { key: 'k', ttlMs }),
      'InvalidArgument',
      'ttlMs must be a positive integer'
    )
    if (ttlMs !== null)
      await refused(
        throwing(() => mergeBackendConfig({ ttlMs })),
        'InvalidArgument',
        'ttlMs must be a positive integer'
      )
  }
  await refused(
    throwing(() => makeStorageKey('p'.repeat(1000), 'k', 1000, 26)),
    'InvalidArgument',
    'Prefix exceeds backend limit'
  )
  const long = async () => createRedisBackend('redis://127.0.0.1:1', { keyPrefix: 'p'.repeat(2000) }).isLocked({ key: 'k' })
  await refused(long(), 'InvalidArgument', 'Prefix exceeds backend limit')
})

test('bad input names the argument, what was given and what is allowed', async () => {
  const backend = createFileBackend('/nowhere')
  const run = (config, fn = () => {}) => lock(backend, fn, config)
  for (const [work, text] of [
    [run({ key: 'k', signal: {} }), 'signal must be an AbortSignal; an object was given'],
    [run({ key: 'k', signal: 5 }), 'signal must be an AbortSignal; a number was given'],
    [run({ key: 'k', onLeaseLost: 'x' }), 'onLeaseLost must be a function; a string was given'],
    [run({ key: 'k', acquisition: [] }), 'acquisition must be an object; an array was given'],
    [run({ key: 'k' }, 5), 'fn must be a function; a number was given'],
    [run({ key: 5 }), 'key must be a string of 1 to 512 bytes of UTF-8; a number was given'],
    [run(Object.create({ key: 'inherited' })), 'key must be a string of 1 to 512 bytes of UTF-8; undefined was given']
  ]) {
    const error = await rejection(work)
    assert.deepEqual([error.code, error.message, error.context.outcome], ['InvalidArgument', text, 'not-applied'])
  }
})

test('contention: which of the limits ended it', async () => {
  const backend = createMemoryBackend()
  await backend.acquire({ key: 'k', ttlMs: 60_000 })
  const contend = (acquisition) => lock(backend, () => assert.fail('held'), { key: 'k', acquisition })
  const cut = 'Timeout reached before next retry'
  // Long enough that the one attempt is answered, however slow this machine is: what is not answered is NetworkTimeout.
  await refused(contend({ timeoutMs: 1000, retryDelayMs: 10_000 }), 'AcquisitionTimeout', 'Failed to acquire lock', cut)
  const spent = await rejection(contend({ maxRetries: 1, retryDelayMs: 1 }))
  assert.equal(spent.code, 'AcquisitionTimeout')
  assert.ok(spent.message.includes('Failed to acquire lock') && !spent.message.includes(cut), spent.message)
})

test("an abort says that the user's signal cancelled it, before and during a wait, by either signal", async () => {
  const backend = createMemoryBackend()
  await backend.acquire({ key: 'k', ttlMs: 60_000 })
  const texts = ['cancelled by user signal', 'Acquisition cancelled']
  for (const place of ['signal', 'acquisition']) {
    for (const early of [true, false]) {
      const controller = new AbortController()
      if (early) controller.abort()
      else setTimeout(() => controller.abort(), 20)
      const config = place === 'signal' ? { signal: controller.signal } : { acquisition: { signal: controller.signal } }
      await refused(
        lock(backend, () => assert.fail('held'), { key: 'k', ...config }),
        'Aborted',
        ...texts
      )
    }
  }
  const files = createFileBackend('/nowhere')
  await refused(files.acquire({ key: 'k', ttlMs: 1, signal: AbortSignal.abort() }), 'Aborted', ...texts)
  await refused(files.release({ lockId: 'A'.repeat(22), signal: AbortSignal.abort() }), 'Aborted', 'cancelled by user signal')
  assert.throws(() => common.checkAborted(AbortSignal.abort()), { code: 'Aborted', message: /cancelled by user signal/ })
})

test('a failed disposal is logged by default as one line and an object', async (t) => {
  const log = t.mock.method(console, 'error', () => {})
  const lockId = common.generateLockId()
  const fail = (thrown) => {
    const backend = {
      release: async () => {
        throw thrown
      },
      extend: async () => ({ ok: false })
    }
    return common.createDisposableHandle(backend, { ok: true, lockId, expiresAtMs: 1 }, 'the-key')[Symbol.asyncDispose]()
  }
  await fail(new TypeError('it broke'))
  await fail('a mere string')
  await fail(new LockError('ServiceUnavailable', `no release of ${lockId}`))
  await fail(new Error('no release of the-key'))
  const calls = log.mock.calls.map((call) => call.arguments)
  assert.equal(calls.length, 4)
  for (const [text, , ...more] of calls) assert.deepEqual([text, more], ['[SyncGuard] Lock disposal failed:', []])
  assert.deepEqual(calls[0][1], { error: 'it broke', errorName: 'TypeError', source: 'disposal' })
  assert.deepEqual(calls[1][1], { error: 'a mere string', errorName: 'Error', source: 'disposal' })
  assert.equal(calls[2][1].errorName, 'LockError')
  assert.ok(!JSON.stringify(calls).includes(lockId) && !JSON.stringify(calls).includes('the-key'))
})

test('what is thrown and is no Error becomes one before a callback sees it', async () => {
  const odd = Object.create(null)
  for (const [thrown, text] of [
    ['text', 'text'],
    [undefined, 'undefined'],
    [7n, '7'],
    [Symbol('s'), 'Symbol(s)'],
    [{ a: 1 }, '[object Object]'],
    [odd, undefined]
  ]) {
    const seen = []
    const onReleaseError = (error, context) => seen.push([error, context])
    const failing = createMemoryBackend({
      before: async (operation) => {
        if (operation === 'release') throw thrown
      },
      onReleaseError
    })
    const held = await failing.acquire({ key: 'k', ttlMs: 1000 })
    await held[Symbol.asyncDispose]()
    const [[error, context]] = seen
    assert.ok(error instanceof Error)
    if (text !== undefined) assert.equal(error.message, text)
    assert.equal(context.source, 'disposal')
    // The same in lock(), whose release goes by way of the engine.
    seen.length = 0
    await lock(failing, () => {}, { key: 'other', onReleaseError })
    assert.ok(seen[0][0] instanceof Error)
    if (text !== undefined) assert.equal(seen[0][0].message, text)
  }
})

test('a loss in lock() is one warning that begins as every line of ours does', async () => {
  const alive = setInterval(() => {}, 1000) // a loss is not waited for
  const warning = new Promise((resolve) => process.once('warning', resolve))
  const { createBackend } = await import('syncguard')
  const backend = await createBackend('memory:')
  await lock(backend, (held) => new Promise((resolve) => held.signal.addEventListener('abort', resolve)), { key: 'lost', ttlMs: 50 })
  assert.match((await warning).message, /^\[SyncGuard\] /)
  await backend.close()
  clearInterval(alive)
})

test('hasFence is false for an empty fence', () => {
  const granted = { ok: true, lockId: 'A'.repeat(22), expiresAtMs: 1 }
  assert.equal(common.hasFence({ ...granted, fence: '000000000000001' }), true)
  for (const fence of ['', undefined, 5]) assert.equal(common.hasFence({ ...granted, fence }), false)
  assert.equal(common.hasFence({ ok: false, reason: 'locked' }), false)
})

test('makeStorageKey and hashKey normalise to NFC themselves', () => {
  const [composed, decomposed] = ['caf\u00e9', 'cafe\u0301']
  assert.equal(common.hashKey(decomposed), common.hashKey(composed))
  assert.equal(common.makeStorageKey('p', decomposed, 1000, 26), `p:${composed}`)
  const long = (key) => common.makeStorageKey('p', key.repeat(300), 1000, 26)
  assert.equal(long(decomposed), long(composed))
})

for (const timer of [1, {}, undefined, null]) {
  test(`timers that tests have replaced, without unref, do no harm: setTimeout() answers ${JSON.stringify(timer)}`, async (t) => {
    const held = gate()
    const backend = createMemoryBackend({ before: async (operation) => operation === 'release' && held.opened, disposeTimeoutMs: 50 })
    const lease = await backend.acquire({ key: 'k', ttlMs: 1000 })
    t.mock.method(globalThis, 'setTimeout', () => timer)
    t.mock.method(globalThis, 'clearTimeout', () => {})
    const log = t.mock.method(console, 'error', () => {})
    const disposed = lease[Symbol.asyncDispose]()
    held.open()
    await disposed
    assert.equal(log.mock.callCount(), 0)
    assert.equal(backend.leases.size, 0)
  })
}

test('FAILURE_REASON: where a JavaScript backend says why it refused, telemetry tells it', async () => {
  const { FAILURE_REASON, withTelemetry } = common
  assert.equal(typeof FAILURE_REASON, 'symbol')
  const refuse = async () => ({ ok: false, [FAILURE_REASON]: { reason: 'expired' } })
  const events = []
  const observed = withTelemetry({ ...createMemoryBackend(), release: refuse, extend: refuse }, { onEvent: (event) => events.push(event) })
  assert.equal((await observed.release({ lockId: 'A'.repeat(22) })).ok, false)
  assert.equal((await observed.extend({ lockId: 'A'.repeat(22), ttlMs: 1 })).ok, false)
  assert.deepEqual(
    events.map(({ type, result, reason }) => [type, result, reason]),
    [
      ['release', 'fail', 'expired'],
      ['extend', 'fail', 'expired']
    ]
  )
})

test('what a store showed, as a condition, and a condition as an answer', async () => {
  const { mapToMutationResult, mapRedisScriptResult, mapFirestoreConditions, mapBackendObservation } = common
  const answers = {
    succeeded: { ok: true },
    'observable-expired': { ok: false, reason: 'expired' },
    'never-existed': { ok: false, reason: 'not-found' },
    'ownership-mismatch': { ok: false, reason: 'not-found' },
    'cleaned-up-after-expiry': { ok: false, reason: 'not-found' },
    'ambiguous-unknown': { ok: false, reason: 'not-found' }
  }
  for (const [condition, answer] of Object.entries(answers)) assert.deepEqual(mapToMutationResult(condition), answer, condition)
  const numbers = [
    [1, 'succeeded'],
    [-2, 'observable-expired'],
    [-1, 'never-existed'],
    [0, 'ownership-mismatch'],
    [2, 'ambiguous-unknown'],
    [-3, 'ambiguous-unknown'],
    [Number.NaN, 'ambiguous-unknown']
  ]
  for (const [number, condition] of numbers) {
    assert.equal(mapRedisScriptResult(number), condition)
    assert.equal(mapBackendObservation(number), condition)
  }
  for (const documentExists of [true, false]) {
    for (const ownershipValid of [true, false]) {
      for (const isLive of [true, false]) {
        const expected = !documentExists ? 'never-existed' : !ownershipValid ? 'ownership-mismatch' : !isLive ? 'observable-expired' : 'succeeded'
        assert.equal(mapFirestoreConditions({ documentExists, ownershipValid, isLive }), expected)
        assert.equal(mapBackendObservation({ documentExists, ownershipValid, isLive }), expected)
      }
    }
  }
  // Such an answer can be given as it is: telemetry finds the reason.
  const events = []
  const backend = { ...createMemoryBackend(), release: async () => mapToMutationResult('observable-expired') }
  await common.withTelemetry(backend, { onEvent: (event) => events.push(event) }).release({ lockId: 'A'.repeat(22) })
  assert.equal(events[0].reason, 'expired')
})

test('in events, isLocked that is false and lookup that finds nothing have result fail', async () => {
  const events = []
  const backend = common.withTelemetry(createMemoryBackend(), { onEvent: ({ type, result }) => events.push(`${type} ${result}`) })
  await backend.isLocked({ key: 'k' })
  await backend.lookup({ key: 'k' })
  await backend.acquire({ key: 'k', ttlMs: 1000 })
  await backend.isLocked({ key: 'k' })
  await backend.lookup({ key: 'k' })
  assert.deepEqual(events, ['isLocked fail', 'lookup fail', 'acquire ok', 'isLocked ok', 'lookup ok'])
})
