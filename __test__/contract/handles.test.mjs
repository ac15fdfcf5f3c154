// Section 2, handles: what a granted and a refused acquire answer, and what their methods do.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isGrant, isLockError, isRefusal } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { sleep, timed } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'

const isPlain = (object) => Object.getPrototypeOf(object) === Object.prototype
const METHODS = ['release', 'extend', 'isValid', 'remainingMs', Symbol.asyncDispose]

eachBackend((fixture) => {
  test('a granted handle is a plain object with own properties', async () => {
    const held = isGrant(await fixture.open().acquire({ key: uniqueKey(), ttlMs: 30_000 }))
    assert.ok(isPlain(held))
    for (const name of ['ok', 'lockId', 'expiresAtMs', 'fence', 'signal', ...METHODS]) assert.ok(Object.hasOwn(held, name), String(name))
    for (const name of METHODS) assert.equal(typeof held[name], 'function')
    assert.ok(held.signal instanceof AbortSignal)
    const { ok, lockId, expiresAtMs, fence } = { ...held }
    assert.deepEqual({ ok, lockId, expiresAtMs, fence }, { ok: true, lockId: held.lockId, expiresAtMs: held.expiresAtMs, fence: held.fence })
    const { release } = held // Methods don't need `this`.
    assert.deepEqual(await release(), { ok: true })
  })

  test('a refused handle has the same methods, which do nothing', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    await backend.acquire({ key, ttlMs: 30_000 })
    const refused = isRefusal(await backend.acquire({ key, ttlMs: 30_000 }))
    assert.ok(isPlain(refused))
    for (const name of ['signal', ...METHODS]) assert.ok(Object.hasOwn(refused, name), String(name))
    assert.deepEqual(await refused.release(), { ok: false })
    assert.deepEqual(await refused.extend(1000), { ok: false })
    assert.equal(refused.isValid(), false)
    assert.equal(refused.remainingMs(), 0)
    assert.equal(refused.signal.aborted, false)
    await refused[Symbol.asyncDispose]()
    assert.equal(await backend.isLocked({ key }), true)
    assert.equal(refused.signal.aborted, false)
  })

  test('isValid, remainingMs and signal tell of the local deadline', async () => {
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 300 })
    assert.ok(held.isValid())
    const remaining = held.remainingMs()
    assert.ok(remaining > 0 && remaining <= 300, `remainingMs ${remaining}`)
    const { ms, lagMs } = await timed(() => new Promise((resolve) => held.signal.addEventListener('abort', resolve, { once: true })))
    assert.ok(ms > remaining - 150 && ms < remaining + 5 + lagMs, `with ${remaining} ms left the signal fired after ${ms} ms, ${lagMs} of them the machine's`)
    isLockError(held.signal.reason, 'LeaseLost')
    assert.equal(held.isValid(), false)
    assert.equal(held.remainingMs(), 0)
    assert.deepEqual(await held.extend(30_000), { ok: false })
  })

  test('isValid is never late, even when the event loop was blocked past the deadline', async () => {
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 120 })
    const { signal } = held
    const end = performance.now() + 200
    while (performance.now() < end);
    assert.equal(held.isValid(), false)
    assert.equal(held.remainingMs(), 0)
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    assert.ok(signal.aborted)
  })

  test('a signal that nobody asked for before the deadline is aborted when asked for after it', async () => {
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 60 })
    await sleep(90)
    assert.ok(held.signal.aborted)
    isLockError(held.signal.reason, 'LeaseLost')
  })

  test('extend moves the deadline, and so does an extend by lock id', async () => {
    const backend = fixture.open()
    const held = await backend.acquire({ key: uniqueKey(), ttlMs: 400 })
    const { signal } = held
    assert.equal((await held.extend(60_000)).ok, true)
    assert.ok(held.remainingMs() > 50_000)
    await sleep(450)
    assert.ok(held.isValid() && !signal.aborted)
    assert.equal((await backend.extend({ lockId: held.lockId, ttlMs: 200 })).ok, true)
    assert.ok(held.remainingMs() <= 200)
    await sleep(250)
    assert.ok(!held.isValid() && signal.aborted)
  })

  test('a released handle is not valid, its signal does not fire, and extend answers no', async () => {
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 200 })
    const { signal } = held
    assert.deepEqual(await held.release(), { ok: true })
    assert.equal(held.isValid(), false)
    assert.equal(held.remainingMs(), 0)
    assert.deepEqual(await held.extend(30_000), { ok: false })
    await sleep(250)
    assert.equal(signal.aborted, false, 'a release is no loss')
  })

  test('release by lock id ends the handle of that lock id', async () => {
    const backend = fixture.open()
    const held = await backend.acquire({ key: uniqueKey(), ttlMs: 30_000 })
    assert.deepEqual(await backend.release({ lockId: held.lockId }), { ok: true })
    assert.equal(held.isValid(), false)
    assert.equal(held.remainingMs(), 0)
    assert.deepEqual(await held.release(), { ok: false })
    assert.deepEqual(await backend.release({ lockId: held.lockId }), { ok: false })
  })

  test('a second release frees nobody else', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    const held = await backend.acquire({ key, ttlMs: 30_000 })
    const answers = await Promise.all([held.release(), held.release(), held.release()])
    assert.deepEqual(
      answers.map(({ ok }) => ok),
      [true, false, false]
    )
    const next = isGrant(await backend.acquire({ key, ttlMs: 30_000 }))
    assert.deepEqual(await held.release(), { ok: false })
    await held[Symbol.asyncDispose]()
    assert.ok(next.isValid())
    assert.equal(await backend.isLocked({ key }), true)
  })

  test('await using, lowered by hand: disposal releases, granted or not', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    for (const expected of [true, false]) {
      const held = await backend.acquire({ key, ttlMs: 30_000 })
      assert.equal(held.ok, true)
      const second = await backend.acquire({ key, ttlMs: 30_000 })
      await second[Symbol.asyncDispose]()
      assert.equal(await backend.isLocked({ key }), true)
      if (!expected) await held.release()
      await held[Symbol.asyncDispose]()
      await held[Symbol.asyncDispose]()
      assert.equal(await backend.isLocked({ key }), false)
    }
  })

  test('onLeaseLost of acquire hears of a lease that expired, once, with key, lock id and fence', async () => {
    const key = uniqueKey()
    const losses = []
    const held = await fixture.open().acquire({ key, ttlMs: 100, onLeaseLost: (...args) => losses.push(args) })
    await sleep(200)
    await held.extend(1000)
    assert.equal(losses.length, 1)
    const [error, context] = losses[0]
    isLockError(error, 'LeaseLost')
    assert.equal(error, held.signal.reason)
    assert.deepEqual({ ...context }, { key, lockId: held.lockId, fence: held.fence })
  })

  test('onLeaseLost never comes from a release', async () => {
    const losses = []
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 500, onLeaseLost: (error) => losses.push(error) })
    await held.release()
    await sleep(600)
    assert.deepEqual(losses, [])
  })

  test('what onLeaseLost throws disturbs nobody', async () => {
    const held = await fixture.open().acquire({
      key: uniqueKey(),
      ttlMs: 60,
      onLeaseLost: () => {
        throw new Error('mine')
      }
    })
    await sleep(120)
    assert.ok(held.signal.aborted)
  })
})

eachBackend(
  (fixture) => {
    test('a second release and an extend after loss need no I/O', async () => {
      const backend = fixture.open()
      const released = await backend.acquire({ key: uniqueKey(), ttlMs: 30_000 })
      await released.release()
      const lost = await backend.acquire({ key: uniqueKey(), ttlMs: 30 })
      await sleep(60)
      const requests = await fixture.requestsDuring(async () => {
        assert.deepEqual(await released.release(), { ok: false })
        assert.deepEqual(await released.extend(1000), { ok: false })
        assert.deepEqual(await lost.extend(1000), { ok: false })
        released.isValid()
        released.remainingMs()
        await released[Symbol.asyncDispose]()
      })
      assert.deepEqual(requests, [])
    })

    test('a refused handle does no I/O', async () => {
      const backend = fixture.open()
      const key = uniqueKey()
      await backend.acquire({ key, ttlMs: 30_000 })
      const refused = await backend.acquire({ key, ttlMs: 30_000 })
      const requests = await fixture.requestsDuring(async () => {
        await refused.release()
        await refused.extend(1000)
        await refused[Symbol.asyncDispose]()
      })
      assert.deepEqual(requests, [])
    })

    test('extend of a lease that somebody removed is a loss', async () => {
      const key = uniqueKey()
      const losses = []
      const held = await fixture.open().acquire({ key, ttlMs: 30_000, onLeaseLost: (error) => losses.push(error) })
      const { signal } = held
      await fixture.remove(key)
      assert.deepEqual(await held.extend(30_000), { ok: false })
      assert.ok(signal.aborted && !held.isValid() && held.remainingMs() === 0)
      isLockError(signal.reason, 'LeaseLost')
      assert.equal(losses.length, 1)
    })

    test('release of a lease that somebody removed answers no', async () => {
      const key = uniqueKey()
      const held = await fixture.open().acquire({ key, ttlMs: 30_000 })
      await fixture.remove(key)
      assert.deepEqual(await held.release(), { ok: false })
    })
  },
  { where: overNetwork }
)
