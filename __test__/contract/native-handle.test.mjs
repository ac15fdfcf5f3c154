// What a native handle tells and does, over a real Redis: validity, loss, release, disposal, and lock() around them.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createBackend, createLock as createRootLock } from 'syncguard'
import { getByIdRaw, getByKeyRaw, lock, LockError, owns, withTelemetry } from 'syncguard/common'
import { createLock, createRedisBackend } from 'syncguard/redis'
import { RedisServer } from '../support/servers.mjs'

const server = await RedisServer.start()
const backend = createRedisBackend(server.url)
const other = createRedisBackend(server.url)
after(async () => {
  await backend.close()
  await other.close()
  await server.stop()
})

let keys = 0
const newKey = () => `handle-${++keys}`
const dispose = (handle) => handle[Symbol.asyncDispose]()
const block = (ms) => {
  for (const end = performance.now() + ms; performance.now() < end; );
}
const isLoss = (reason) => reason instanceof LockError && reason.code === 'LeaseLost'

async function warningsDuring(work) {
  const warnings = []
  const note = (warning) => warnings.push(warning)
  process.on('warning', note)
  await work()
  await sleep(5)
  process.off('warning', note)
  return warnings
}

test('a grant and a refusal are plain objects with the same methods of their own', async () => {
  const key = newKey()
  const methods = ['release', 'extend', 'isValid', 'remainingMs', 'signal', Symbol.asyncDispose]
  const granted = await backend.acquire({ key, ttlMs: 5000 })
  const refused = await backend.acquire({ key, ttlMs: 5000 })
  for (const handle of [granted, refused]) {
    assert.equal(Object.getPrototypeOf(handle), Object.prototype)
    for (const name of methods) assert.ok(Object.getOwnPropertyDescriptor(handle, name)?.enumerable, String(name))
  }
  assert.deepEqual(Object.keys(granted).slice(0, 4), ['ok', 'lockId', 'expiresAtMs', 'fence'])
  assert.deepEqual([granted.isValid(), refused.isValid(), refused.remainingMs()], [true, false, 0])
  assert.ok(Number.isInteger(granted.remainingMs()) && granted.remainingMs() > 4000)
  assert.equal(refused.reason, 'locked')
  assert.deepEqual([await refused.release(), await refused.extend(1)], [{ ok: false }, { ok: false }])
  assert.equal(refused.signal, refused.signal)
  assert.equal(refused.signal.aborted, false)
  await dispose(refused)
  const { release, signal } = granted
  assert.equal(granted.signal, signal)
  assert.deepEqual(await release(), { ok: true })
})

test('release ends validity at once, not by a loss; a second one and an extend need no I/O', async () => {
  const handle = await backend.acquire({ key: newKey(), ttlMs: 5000 })
  const { signal } = handle
  const releases = [handle.release(), handle.release()]
  assert.deepEqual([handle.isValid(), handle.remainingMs()], [false, 0])
  assert.deepEqual(await Promise.all(releases), [{ ok: true }, { ok: false }])
  const commands = await server.commandsDuring(async () => {
    assert.deepEqual(await handle.release(), { ok: false })
    assert.deepEqual(await handle.extend(1000), { ok: false })
    await dispose(handle)
  })
  assert.deepEqual(commands, [])
  assert.equal(signal.aborted, false)
})

test('by lock id the same lease is extended and released', async () => {
  const handle = await backend.acquire({ key: newKey(), ttlMs: 2000 })
  const { lockId, signal } = handle
  const extended = await backend.extend({ lockId, ttlMs: 60000 })
  assert.ok(extended.ok && handle.remainingMs() > 50000)
  assert.deepEqual(await backend.release({ lockId }), { ok: true })
  assert.equal(handle.isValid(), false)
  assert.equal(signal.aborted, false)
  assert.deepEqual(await handle.release(), { ok: false })
  assert.deepEqual(await backend.release({ lockId }), { ok: false })
})

test('lookups: hashes; the raw ones on request only', async () => {
  const key = newKey()
  const { lockId, release } = await backend.acquire({ key, ttlMs: 5000 })
  for (const from of [backend, withTelemetry(backend, { onEvent() {} })]) {
    const info = await from.lookup({ key })
    assert.deepEqual(Object.keys(info), ['keyHash', 'lockIdHash', 'expiresAtMs', 'acquiredAtMs', 'fence'])
    assert.deepEqual(Reflect.ownKeys(info).length, 5)
    assert.equal((await getByKeyRaw(from, key)).lockId, lockId)
    assert.equal((await getByIdRaw(from, lockId)).key, key)
    assert.equal(await owns(from, lockId), true)
  }
  await release()
  assert.equal(await backend.lookup({ lockId }), null)
})

test('a lease that runs out: signal, isValid() and onLeaseLost say so, once', async () => {
  const lost = []
  const key = newKey()
  const handle = await backend.acquire({ key, ttlMs: 150, onLeaseLost: (...args) => lost.push(args) })
  const { signal, lockId, fence } = handle
  await sleep(200)
  assert.equal(signal.aborted, true)
  assert.ok(isLoss(signal.reason))
  assert.equal(handle.isValid(), false)
  assert.deepEqual(await handle.extend(1000), { ok: false })
  assert.deepEqual(lost, [[signal.reason, { lockId, key, fence }]])
  await handle.release()
  assert.equal(lost.length, 1)
})

test('a signal that is first asked for after the loss is aborted already', async () => {
  const handle = await backend.acquire({ key: newKey(), ttlMs: 50 })
  await sleep(100)
  assert.ok(isLoss(handle.signal.reason))
})

test('on the first instruction after a blocked event loop isValid() is false and aborts the signal', async () => {
  const handle = await backend.acquire({ key: newKey(), ttlMs: 100 })
  const { signal } = handle
  block(200)
  assert.equal(signal.aborted, false, 'no event can have come')
  assert.equal(handle.isValid(), false)
  assert.ok(isLoss(signal.reason))
})

test('lock(): a lease that was lost while the function ran goes to onLeaseLost; the result stays', async () => {
  const lost = []
  const onLeaseLost = (error, { key }) => {
    lost.push([error.code, key])
    throw new Error('changes nothing')
  }
  for (const target of [backend, withTelemetry(backend, { onEvent() {} })]) {
    for (const work of [() => sleep(200), () => block(200)]) {
      const key = newKey()
      assert.equal(await lock(target, async () => (await work(), 'result'), { key, ttlMs: 100, onLeaseLost }), 'result')
      assert.deepEqual(lost.splice(0), [['LeaseLost', key]])
    }
    const key = newKey()
    await lock(target, ({ lockId }) => other.release({ lockId }), { key, onLeaseLost })
    assert.deepEqual(lost.splice(0), [['LeaseLost', key]], 'the store no longer had it')
  }
})

test('lock(): without onLeaseLost one warning, which names neither key nor lock id', async () => {
  const key = newKey()
  let lockId
  const warnings = await warningsDuring(() =>
    lock(
      backend,
      async (handle) => {
        lockId = handle.lockId
        await sleep(200)
      },
      { key, ttlMs: 100 }
    )
  )
  assert.deepEqual(
    warnings.map(({ code }) => code),
    ['SYNCGUARD_LEASE_LOST']
  )
  assert.ok(!warnings[0].stack.includes(key) && !warnings[0].stack.includes(lockId))
})

test('lock(): a function that releases by itself has lost nothing', async () => {
  const warnings = await warningsDuring(async () => {
    for (const target of [backend, withTelemetry(backend, { onEvent() {} })]) {
      await lock(target, (handle) => handle.release(), { key: newKey() })
      await lock(target, ({ lockId }) => target.release({ lockId }), { key: newKey() })
    }
  })
  assert.deepEqual(warnings, [])
})

test('autoExtend keeps the lease, also below withTelemetry', async () => {
  for (const target of [backend, withTelemetry(backend, { onEvent() {} })]) {
    await lock(
      target,
      async (handle) => {
        await sleep(500)
        assert.equal(handle.isValid(), true)
        assert.equal(handle.signal.aborted, false)
      },
      { key: newKey(), ttlMs: 200, autoExtend: true }
    )
  }
})

test('withTelemetry passes a native handle on whole, with events of its operations', async () => {
  const events = []
  const observed = withTelemetry(backend, { onEvent: ({ type, result, reason }) => events.push([type, result, reason].join(' ').trim()) })
  const key = newKey()
  const handle = await observed.acquire({ key, ttlMs: 200 })
  const { signal } = handle
  assert.equal(handle.isValid(), true)
  await handle.extend(100)
  await sleep(150)
  assert.ok(isLoss(signal.reason))
  await handle.release()
  const disposed = await observed.acquire({ key: newKey(), ttlMs: 5000 })
  await dispose(disposed)
  await dispose(disposed)
  assert.equal(disposed.signal.aborted, false, 'released, not lost, also when asked for the first time')
  await observed.release({ lockId: disposed.lockId })
  assert.deepEqual(events.slice(0, 2), ['acquire ok', 'extend ok'])
  assert.deepEqual(events.slice(-3), ['acquire ok', 'release ok', 'release fail not-found'])
})

test('disposeTimeoutMs: a store that hangs holds disposal up no longer, and that is reported', async () => {
  const reported = []
  const bounded = createRedisBackend(server.url, { disposeTimeoutMs: 100, onReleaseError: (...args) => reported.push(args) })
  const key = newKey()
  const handle = await bounded.acquire({ key, ttlMs: 60000 })
  server.freeze()
  try {
    await dispose(handle)
  } finally {
    server.thaw()
  }
  assert.equal(reported.length, 1)
  assert.equal(reported[0][0].code, 'NetworkTimeout')
  assert.deepEqual(reported[0][1], { lockId: handle.lockId, key, source: 'disposal' })
  await bounded.close()
})

test('aborting: in the middle of a wait, and before anything', async () => {
  const key = newKey()
  const holder = await backend.acquire({ key, ttlMs: 60000 })
  const controller = new AbortController()
  const waiting = lock(backend, () => assert.fail('not held'), { key, signal: controller.signal, acquisition: { timeoutMs: 60000, maxRetries: 1000 } })
  setTimeout(() => controller.abort('enough'), 30)
  await assert.rejects(waiting, { code: 'Aborted', cause: 'enough' })
  for (const call of [
    () => backend.acquire({ key, ttlMs: 1, signal: controller.signal }),
    () => backend.isLocked({ key, signal: controller.signal }),
    () => backend.lookup({ key, signal: controller.signal }),
    () => holder.extend(1000, controller.signal),
    () => holder.release(controller.signal)
  ]) {
    await assert.rejects(call(), { code: 'Aborted', cause: 'enough' })
  }
  assert.equal(holder.isValid(), true, 'a release that was never sent ends nothing')
  assert.equal(controller.signal.onabort, null)
  assert.deepEqual(await holder.release(), { ok: true })
})

test('createLock here and at the root; close and asyncDispose; a closed backend says so', async () => {
  const run = createLock(server.url)
  assert.match(await run((handle) => handle.fence, { key: newKey() }), /^\d{15}$/)
  await run.close()
  await assert.rejects(
    run(() => {}, { key: newKey() }),
    { code: 'InvalidArgument' }
  )
  const atRoot = await createRootLock(server.url)
  assert.equal(await atRoot(() => 3, { key: newKey() }), 3)
  await atRoot[Symbol.asyncDispose]()
  const made = await createBackend(server.url)
  assert.deepEqual(made.capabilities, { backend: 'redis', supportsFencing: true, timeAuthority: 'server' })
  await made.close()
  await made.close()
  await assert.rejects(createBackend('redis://127.0.0.1:1'), { name: 'LockError', code: 'ServiceUnavailable' })
})

test('lock() calls methods that were put in place of the native ones', async () => {
  const spied = createRedisBackend(server.url)
  let calls = 0
  const { acquire } = spied
  spied.acquire = (opts) => (calls++, acquire(opts))
  assert.equal(await lock(spied, () => 'in', { key: newKey() }), 'in')
  assert.equal(calls, 1)
  await spied.close()
})
