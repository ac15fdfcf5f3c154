// Handles that the helpers of "syncguard/common" make for backends written in JavaScript.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { acquireHandle, createDisposableHandle, decorateAcquireResult, LockError } from 'syncguard/common'
import { createMemoryBackend, gate } from '../support/javascript-backend.mjs'

const dispose = (handle) => handle[Symbol.asyncDispose]()

test('a granted handle is a plain object with properties of its own', async () => {
  const backend = createMemoryBackend()
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  for (const name of ['ok', 'lockId', 'expiresAtMs', 'fence', 'release', 'extend', Symbol.asyncDispose]) {
    assert.ok(Object.hasOwn(handle, name), String(name))
  }
  const { release, extend } = handle
  assert.equal((await extend(2000)).ok, true)
  assert.deepEqual(await release(), { ok: true })
})

test('a second release and an extend after it answer { ok: false } without I/O', async () => {
  const backend = createMemoryBackend()
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  const { signal } = new AbortController()
  assert.deepEqual(await handle.release(signal), { ok: true })
  assert.deepEqual(backend.calls.release, [{ lockId: handle.lockId, signal }])
  assert.deepEqual(await handle.release(), { ok: false })
  assert.deepEqual(await handle.extend(1000), { ok: false })
  await dispose(handle)
  assert.equal(backend.calls.release.length, 1)
  assert.equal(backend.calls.extend.length, 0)
})

test('releases at the same time are one; disposal waits for it', async () => {
  const { opened, open } = gate()
  const backend = createMemoryBackend({ before: async (operation) => operation === 'release' && opened })
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  const first = handle.release()
  const second = handle.release()
  let disposed = false
  const disposal = dispose(handle).then(() => (disposed = true))
  await sleep(10)
  assert.equal(disposed, false)
  open()
  assert.deepEqual(await first, { ok: true })
  assert.deepEqual(await second, { ok: false })
  await disposal
  assert.equal(backend.calls.release.length, 1)
})

test('after a release that failed, a later one tries again, also one that waited for it', async () => {
  const failure = new Error('cut off')
  const backend = createMemoryBackend({
    before: async (operation, _, count) => {
      if (operation === 'release' && count === 1) throw failure
    }
  })
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  const first = handle.release()
  const second = handle.release()
  await assert.rejects(first, failure)
  assert.deepEqual(await second, { ok: true })
  assert.deepEqual(await handle.release(), { ok: false })
  assert.equal(backend.calls.release.length, 2)
})

test('an aborted signal: release rejects without I/O, and while it waits for another one at once', async () => {
  const { opened, open } = gate()
  const backend = createMemoryBackend({ before: async (operation) => operation === 'release' && opened })
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  await assert.rejects(handle.release(AbortSignal.abort('r')), { code: 'Aborted', cause: 'r' })
  assert.equal(backend.calls.release.length, 0)
  const first = handle.release()
  const controller = new AbortController()
  const second = handle.release(controller.signal)
  controller.abort()
  await assert.rejects(second, { code: 'Aborted' })
  open()
  assert.deepEqual(await first, { ok: true })
})

test('disposal is idempotent and never throws; its error is told once', async () => {
  const failure = new Error('cut off')
  const reported = []
  const backend = createMemoryBackend({
    before: async (operation) => {
      if (operation === 'release') throw failure
    },
    onReleaseError: (...args) => {
      reported.push(args)
      throw new Error('changes nothing')
    }
  })
  const handle = await backend.acquire({ key: 'k', ttlMs: 1000 })
  await Promise.all([dispose(handle), dispose(handle)])
  await dispose(handle)
  assert.deepEqual(reported, [[failure, { lockId: handle.lockId, key: 'k', source: 'disposal' }]])
})

test('a backend that throws at once, something that is no Error, and an onReleaseError that rejects', async () => {
  const rejections = []
  const note = (reason) => rejections.push(reason)
  process.on('unhandledRejection', note)
  const reported = []
  const result = { ok: true, lockId: 'A'.repeat(22), expiresAtMs: 1, fence: '000000000000001' }
  const backend = {
    release() {
      throw 'a string'
    },
    extend: async () => ({ ok: false })
  }
  const handle = createDisposableHandle(backend, result, 'k', async (error) => {
    reported.push(error)
    throw new Error('rejects')
  })
  await dispose(handle)
  assert.ok(reported[0] instanceof Error)
  assert.equal(reported[0].message, 'a string')
  await sleep(5)
  process.off('unhandledRejection', note)
  assert.deepEqual(rejections, [])
})

test('disposeTimeoutMs bounds disposal, and running into it is reported', async () => {
  const { opened, open } = gate()
  const reported = []
  const backend = createMemoryBackend({
    before: async (operation) => operation === 'release' && opened,
    onReleaseError: (error, context) => reported.push([error, context]),
    disposeTimeoutMs: 20
  })
  const handle = await backend.acquire({ key: 'k', ttlMs: 60000 })
  const alive = setInterval(() => {}, 1000)
  await dispose(handle)
  clearInterval(alive)
  assert.equal(reported.length, 1)
  assert.ok(reported[0][0] instanceof LockError)
  assert.equal(reported[0][0].code, 'NetworkTimeout')
  assert.equal(reported[0][0].context.outcome, 'unknown')
  assert.equal(reported[0][1].source, 'disposal')
  open()
  await sleep(5)
  assert.equal(backend.leases.size, 0, 'the release still went through')
})

test('a disposeTimeoutMs beyond what timers count does not fire at once', async () => {
  const { opened, open } = gate()
  const reported = []
  const backend = createMemoryBackend({
    before: async (operation) => operation === 'release' && opened,
    onReleaseError: (error) => reported.push(error),
    disposeTimeoutMs: 2 ** 40
  })
  const handle = await backend.acquire({ key: 'k', ttlMs: 60000 })
  const disposal = dispose(handle)
  await sleep(20)
  assert.deepEqual(reported, [])
  open()
  await disposal
})

test('a disposeTimeoutMs that is no time is refused, for grants and refusals', () => {
  const backend = createMemoryBackend()
  const granted = { ok: true, lockId: 'A'.repeat(22), expiresAtMs: 1, fence: '000000000000001' }
  for (const disposeTimeoutMs of [0, -1, 1.5, Number.NaN, Infinity, 3_153_600_000_001, '20', null, {}]) {
    const refused = { code: 'InvalidArgument', message: /^disposeTimeoutMs must be a positive integer of [^;]*; .* was given$/ }
    assert.throws(() => createDisposableHandle(backend, granted, 'k', undefined, disposeTimeoutMs), refused)
    for (const result of [granted, { ok: false, reason: 'locked' }]) {
      assert.throws(() => decorateAcquireResult(backend, result, 'k', undefined, disposeTimeoutMs), refused)
    }
  }
  assert.equal(createDisposableHandle(backend, granted, 'k', undefined, 3_153_600_000_000).ok, true)
})

test('the default handler logs outside production, without key and lock id', async (t) => {
  const log = t.mock.method(console, 'error', () => {})
  const { NODE_ENV, SYNCGUARD_DEBUG } = process.env
  t.after(() => Object.assign(process.env, { NODE_ENV: NODE_ENV ?? 'test', SYNCGUARD_DEBUG: SYNCGUARD_DEBUG ?? '' }))
  const disposeOfFailing = async (message) => {
    const backend = createMemoryBackend({
      before: async (operation, { lockId }) => {
        if (operation === 'release') throw new Error(message.replace('LOCKID', lockId))
      }
    })
    const handle = await backend.acquire({ key: 'secret-key', ttlMs: 1000 })
    await dispose(handle)
    return handle.lockId
  }
  Object.assign(process.env, { NODE_ENV: 'production', SYNCGUARD_DEBUG: '' })
  await disposeOfFailing('cut off')
  assert.equal(log.mock.callCount(), 0)
  Object.assign(process.env, { SYNCGUARD_DEBUG: 'true' })
  await disposeOfFailing('cut off')
  assert.equal(log.mock.callCount(), 1)
  assert.equal(log.mock.calls[0].arguments[1].error, 'cut off')
  Object.assign(process.env, { NODE_ENV: 'development', SYNCGUARD_DEBUG: '' })
  const lockId = await disposeOfFailing('could not delete secret-key of LOCKID')
  assert.equal(log.mock.callCount(), 2)
  const text = JSON.stringify(log.mock.calls[1].arguments)
  assert.ok(!text.includes('secret-key') && !text.includes(lockId), text)
})

test('a refused acquire has the same methods, which do nothing', async () => {
  const backend = createMemoryBackend()
  await backend.acquire({ key: 'k', ttlMs: 1000 })
  const refused = await backend.acquire({ key: 'k', ttlMs: 1000 })
  assert.equal(refused.ok, false)
  assert.equal(refused.reason, 'locked')
  for (const name of ['release', 'extend', Symbol.asyncDispose]) assert.ok(Object.hasOwn(refused, name))
  assert.deepEqual(await refused.release(), { ok: false })
  assert.deepEqual(await refused.extend(1), { ok: false })
  assert.equal(await dispose(refused), undefined)
  assert.equal(backend.calls.release.length, 0)
})

test('decorateAcquireResult and createDisposableHandle leave their argument alone', () => {
  const backend = createMemoryBackend()
  const result = Object.freeze({ ok: true, lockId: 'A'.repeat(22), expiresAtMs: 5, fence: '000000000000001' })
  assert.equal(decorateAcquireResult(backend, result, 'k').fence, result.fence)
  assert.throws(() => createDisposableHandle(backend, { ok: false, reason: 'locked' }, 'k'), { code: 'InvalidArgument' })
  assert.throws(() => createDisposableHandle({}, result, 'k'), { code: 'InvalidArgument' })
})

test('acquireHandle: a handle, a refusal, or an error for a backend without handle methods', async () => {
  const backend = createMemoryBackend()
  const handle = await acquireHandle(backend, { key: 'k', ttlMs: 1000 })
  assert.equal(handle.ok, true)
  assert.equal((await acquireHandle(backend, { key: 'k', ttlMs: 1000 })).reason, 'locked')
  const bare = createMemoryBackend({ decorated: false })
  await assert.rejects(acquireHandle(bare, { key: 'k', ttlMs: 1000 }), LockError)
})
