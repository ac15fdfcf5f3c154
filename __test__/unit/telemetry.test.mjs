// What telemetry tells of calls to a memory backend.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { acquireHandle, hashKey, LockError, withTelemetry } from 'syncguard/common'
import { createMemoryBackend } from '../support/javascript-backend.mjs'

function observed(options = {}, backendOptions = {}) {
  const backend = createMemoryBackend(backendOptions)
  const events = []
  return { inner: backend, backend: withTelemetry(backend, { onEvent: (event) => events.push(event), ...options }), events }
}

const short = ({ type, result, reason }) => [type, result, ...(reason ? [reason] : [])].join(' ')

test('every operation is an event', async () => {
  const { backend, events } = observed()
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  await backend.acquire({ key: 'k', ttlMs: 1000 })
  assert.equal(await backend.isLocked({ key: 'k' }), true)
  await backend.lookup({ key: 'k' })
  await backend.lookup({ lockId: handle.lockId })
  await backend.extend({ lockId: handle.lockId, ttlMs: 1000 })
  await backend.release({ lockId: handle.lockId })
  await backend.release({ lockId: handle.lockId })
  assert.deepEqual(events.map(short), ['acquire ok', 'acquire fail locked', 'isLocked ok', 'lookup ok', 'lookup ok', 'extend ok', 'release ok', 'release fail'])
  const keyHash = hashKey('k')
  const lockIdHash = hashKey(handle.lockId)
  assert.deepEqual({ ...events[0], durationMs: 0 }, { type: 'acquire', keyHash, lockIdHash, result: 'ok', durationMs: 0 })
  assert.equal(events[4].lockIdHash, lockIdHash)
  for (const event of events) assert.ok(Number.isInteger(event.durationMs) && event.durationMs >= 0)
  assert.ok(!JSON.stringify(events).includes(handle.lockId))
})

test('operations of a handle are events, too; disposal is one release', async () => {
  const { backend, events } = observed()
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  assert.equal((await handle.extend(1000)).ok, true)
  assert.deepEqual(await handle.release(), { ok: true })
  await handle[Symbol.asyncDispose]()
  const other = await acquireHandle(backend, { key: 'k', ttlMs: 1000 })
  await other[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
  assert.deepEqual(events.map(short), ['acquire ok', 'extend ok', 'release ok', 'acquire ok', 'release ok'])
  for (const event of events) assert.equal(event.keyHash, hashKey('k'))
})

test('errors pass through untouched; the event has the code', async () => {
  for (const [thrown, error] of [
    [new LockError('RateLimited'), 'RateLimited'],
    [new TypeError('secret'), 'TypeError']
  ]) {
    const { backend, events } = observed(
      {},
      {
        before: async () => {
          throw thrown
        }
      }
    )
    assert.equal(await backend.acquire({ key: 'k', ttlMs: 1 }).catch((e) => e), thrown)
    assert.equal(await backend.release({ lockId: 'x' }).catch((e) => e), thrown)
    assert.deepEqual(
      events.map((event) => [event.result, event.error]),
      [
        ['fail', error],
        ['fail', error]
      ]
    )
    assert.ok(!JSON.stringify(events).includes('secret'))
  }
})

test("the error of a disposal goes to the backend's onReleaseError, and is an event", async () => {
  const reported = []
  const before = async (operation) => {
    if (operation === 'release') throw new LockError('ServiceUnavailable')
  }
  const { backend, events } = observed({}, { before, onReleaseError: (error) => reported.push(error.code) })
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  await handle[Symbol.asyncDispose]()
  assert.deepEqual(reported, ['ServiceUnavailable'])
  assert.deepEqual(events.map(short), ['acquire ok', 'release fail'])
})

test('key and lockId only where includeRaw allows them', async () => {
  for (const [includeRaw, expected] of [
    [undefined, false],
    [false, false],
    [true, true],
    [() => true, true],
    [(event) => event.type === 'extend', false],
    [
      () => {
        throw new Error('no')
      },
      false
    ],
    [async () => true, false]
  ]) {
    const { backend, events } = observed({ includeRaw })
    const { lockId } = await backend.acquire({ key: 'k', ttlMs: 1000 })
    assert.equal(events[0].key, expected ? 'k' : undefined)
    assert.equal(events[0].lockId, expected ? lockId : undefined)
  }
})

test('a throwing or rejecting onEvent changes nothing', async () => {
  for (const onEvent of [
    () => {
      throw new Error('no')
    },
    async () => {
      throw new Error('no')
    }
  ]) {
    const { backend } = observed({ onEvent })
    const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
    assert.equal(handle.ok, true)
    assert.deepEqual(await handle.release(), { ok: true })
  }
})

test('the inner backend gets the very options object, and its capabilities and closing stay', async () => {
  const inner = createMemoryBackend()
  let closed = 0
  Object.assign(inner, { close: async () => void closed++, [Symbol.asyncDispose]: async () => void closed++ })
  const backend = withTelemetry(inner, { onEvent() {} })
  const opts = { key: 'k', ttlMs: 1000, extra: 1 }
  await backend.acquire(opts)
  assert.equal(inner.calls.acquire[0], opts)
  assert.equal(backend.capabilities, inner.capabilities)
  await backend.close()
  await backend[Symbol.asyncDispose]()
  assert.equal(closed, 2)
  assert.equal('close' in withTelemetry(createMemoryBackend(), { onEvent() {} }), false)
})

test('layers on layers: each tells once', async () => {
  const outer = []
  const { backend, events } = observed()
  const layered = withTelemetry(backend, { onEvent: (event) => outer.push(event) })
  const handle = await layered.acquire({ key: 'k', ttlMs: 1000 })
  await handle[Symbol.asyncDispose]()
  assert.deepEqual(outer.map(short), ['acquire ok', 'release ok'])
  assert.deepEqual(events.map(short), ['acquire ok', 'release ok'])
})

test('a bad key or none gives an event without a hash, not another error', async () => {
  const { backend, events } = observed(
    {},
    {
      before: async () => {
        throw new LockError('InvalidArgument')
      }
    }
  )
  for (const opts of [undefined, null, {}, { key: 5 }]) await assert.rejects(backend.acquire(opts))
  assert.equal(events.length, 4)
  for (const event of events) assert.equal('keyHash' in event, false)
})

test('InvalidArgument: no backend, no onEvent', () => {
  assert.throws(() => withTelemetry({}, { onEvent() {} }), { code: 'InvalidArgument' })
  assert.throws(() => withTelemetry(createMemoryBackend(), {}), { code: 'InvalidArgument' })
  assert.throws(() => withTelemetry(createMemoryBackend()), { code: 'InvalidArgument' })
})
