// Section 5: acquire, release, extend, isLocked, lookup, and the fence.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generateLockId, hashKey, owns } from 'syncguard'
import { isGrant, isRefusal, rejectsWith } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { sleep } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'

eachBackend((fixture) => {
  test('capabilities say what it is, and can not be changed', () => {
    const { capabilities } = fixture.open()
    assert.deepEqual({ ...capabilities }, fixture.capabilities)
    assert.ok(Object.isFrozen(capabilities))
  })

  test('a free key is granted, with a lock id, a fence and an expiry', async () => {
    const before = Date.now()
    const held = isGrant(await fixture.open().acquire({ key: uniqueKey(), ttlMs: 30_000 }))
    assert.ok(Math.abs(held.expiresAtMs - (before + 30_000)) < 2000, 'the expiry is now + ttlMs')
    assert.deepEqual(await held.release(), { ok: true })
  })

  test('a held key is refused, to this backend and to another one', async () => {
    const key = uniqueKey()
    const [one, other] = [fixture.open(), fixture.open()]
    const held = await one.acquire({ key, ttlMs: 30_000 })
    isRefusal(await one.acquire({ key, ttlMs: 30_000 }))
    isRefusal(await other.acquire({ key, ttlMs: 30_000 }))
    await held.release()
    isGrant(await other.acquire({ key, ttlMs: 30_000 }))
  })

  test('two keys do not meet', async () => {
    const backend = fixture.open()
    isGrant(await backend.acquire({ key: uniqueKey(), ttlMs: 30_000 }))
    isGrant(await backend.acquire({ key: uniqueKey(), ttlMs: 30_000 }))
  })

  test('an expired lease is taken over, and its holder can neither release nor extend', async () => {
    const key = uniqueKey()
    const [one, other] = [fixture.open(), fixture.open()]
    const old = await one.acquire({ key, ttlMs: 50 })
    await sleep(fixture.freeAfter(50))
    const held = isGrant(await other.acquire({ key, ttlMs: 30_000 }))
    assert.ok(held.fence > old.fence)
    assert.notEqual(held.lockId, old.lockId)
    assert.deepEqual(await one.release({ lockId: old.lockId }), { ok: false })
    assert.deepEqual(await one.extend({ lockId: old.lockId, ttlMs: 30_000 }), { ok: false })
    assert.deepEqual(await other.extend({ lockId: old.lockId, ttlMs: 30_000 }), { ok: false })
    assert.equal(await other.isLocked({ key }), true)
    assert.equal(await owns(other, held.lockId), true)
  })

  test('an expired lease that nobody took is not revived', async () => {
    const key = uniqueKey()
    const [one, other] = [fixture.open(), fixture.open()]
    const old = await one.acquire({ key, ttlMs: 50 })
    await sleep(fixture.freeAfter(50))
    assert.deepEqual(await other.extend({ lockId: old.lockId, ttlMs: 30_000 }), { ok: false })
    assert.deepEqual(await other.release({ lockId: old.lockId }), { ok: false })
    assert.equal(await one.isLocked({ key }), false)
    assert.equal(await one.lookup({ key }), null)
    assert.equal(await one.lookup({ lockId: old.lockId }), null)
  })

  test('a lease may be released and extended by lock id alone, from anywhere', async () => {
    const key = uniqueKey()
    const [one, other] = [fixture.open(), fixture.open()]
    const held = await one.acquire({ key, ttlMs: 5000 })
    const extended = await other.extend({ lockId: held.lockId, ttlMs: 60_000 })
    assert.equal(extended.ok, true)
    assert.ok(extended.expiresAtMs > held.expiresAtMs + 50_000)
    assert.deepEqual(await other.release({ lockId: held.lockId }), { ok: true })
    assert.equal(await one.isLocked({ key }), false)
  })

  test('extend sets now + ttlMs: it never adds, and can shorten', async () => {
    const backend = fixture.open()
    const held = await backend.acquire({ key: uniqueKey(), ttlMs: 60_000 })
    const longer = await held.extend(60_000)
    assert.ok(longer.expiresAtMs - held.expiresAtMs < 5000, 'not added')
    const shorter = await held.extend(10_000)
    assert.ok(shorter.expiresAtMs < held.expiresAtMs - 40_000, 'shortened')
    assert.ok(held.remainingMs() <= 10_000)
  })

  test('a lock id that nobody has is not released and not extended', async () => {
    const backend = fixture.open()
    assert.deepEqual(await backend.release({ lockId: generateLockId() }), { ok: false })
    assert.deepEqual(await backend.extend({ lockId: generateLockId(), ttlMs: 1000 }), { ok: false })
    assert.equal(await backend.lookup({ lockId: generateLockId() }), null)
  })

  test('isLocked and lookup tell of a live lease only', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    assert.equal(await backend.isLocked({ key }), false)
    assert.equal(await backend.lookup({ key }), null)
    const held = await backend.acquire({ key, ttlMs: 30_000 })
    assert.equal(await backend.isLocked({ key }), true)
    for (const by of [{ key }, { lockId: held.lockId }]) {
      const info = await backend.lookup(by)
      assert.deepEqual(Object.keys(info).sort(), ['acquiredAtMs', 'expiresAtMs', 'fence', 'keyHash', 'lockIdHash'])
      assert.equal(info.keyHash, hashKey(key))
      assert.equal(info.lockIdHash, hashKey(held.lockId))
      assert.equal(info.expiresAtMs, held.expiresAtMs)
      assert.equal(info.expiresAtMs - info.acquiredAtMs, 30_000)
      assert.equal(info.fence, held.fence)
    }
    await held.release()
    assert.equal(await backend.isLocked({ key }), false)
    assert.equal(await backend.lookup({ lockId: held.lockId }), null)
  })

  test('fences of a key rise strictly and never lag behind the clock', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    let last = ''
    for (let i = 0; i < 20; i++) {
      const held = await backend.acquire({ key, ttlMs: 30_000 })
      assert.ok(held.fence > last, `${held.fence} after ${last}`)
      last = held.fence
      await held.release()
    }
    const tenthsOfMs = Number(last)
    assert.ok(Math.abs(tenthsOfMs / 10 - Date.now()) < 5000, `${last} is the Unix time in units of 100 µs`)
    assert.ok(last < '090000000000000', 'below the warning until the year 2255')
  })

  test('cleanupInIsLocked deletes what has been expired for over two seconds, and no fence', async () => {
    const backend = fixture.open({ cleanupInIsLocked: true })
    const key = uniqueKey()
    const held = await backend.acquire({ key, ttlMs: 20 })
    await sleep(2200)
    assert.equal(await backend.isLocked({ key }), false)
    const next = await backend.acquire({ key, ttlMs: 1000 })
    assert.ok(next.fence > held.fence)
  })

  test('ttlMs of one millisecond and of a hundred years work', async () => {
    const backend = fixture.open()
    isGrant(await backend.acquire({ key: uniqueKey(), ttlMs: 1 }))
    const long = isGrant(await backend.acquire({ key: uniqueKey(), ttlMs: 3_153_600_000_000 }))
    assert.ok(long.isValid() && long.remainingMs() > 3_153_500_000_000)
    await sleep(20) // A timer that overflowed would fire at once.
    assert.ok(long.isValid() && !long.signal.aborted)
    await long.release()
  })

  test('of many at once exactly one is granted', async () => {
    const key = uniqueKey()
    const backends = Array.from({ length: 4 }, () => fixture.open())
    const results = await Promise.all(Array.from({ length: 40 }, (_, i) => backends[i % 4].acquire({ key, ttlMs: 30_000 })))
    assert.equal(results.filter(({ ok }) => ok).length, 1)
  })

  test('operations after close() are refused, close() is idempotent', async () => {
    const backend = fixture.open()
    isGrant(await backend.acquire({ key: uniqueKey(), ttlMs: 1000 }))
    await backend.close()
    await backend.close()
    await backend[Symbol.asyncDispose]()
    const { code } = await backend.acquire({ key: uniqueKey(), ttlMs: 1000 }).catch((error) => error)
    assert.equal(typeof code, 'string', 'acquire on a closed backend fails with a LockError')
  })
})

eachBackend(
  (fixture) => {
    test('a refused acquire writes nothing', async () => {
      const backend = fixture.open()
      const key = uniqueKey()
      await backend.acquire({ key, ttlMs: 30_000 })
      const before = [await fixture.snapshot(key), (await fixture.records(key)).fence]
      isRefusal(await fixture.open().acquire({ key, ttlMs: 60_000 }))
      assert.deepEqual([await fixture.snapshot(key), (await fixture.records(key)).fence], before)
    })

    test('acquire, release and extend cost one round trip each, or what the store needs', async () => {
      const backend = fixture.open(fixture.name === 'postgres' ? { poolSize: 1 } : {})
      const warm = async () => {
        const held = await backend.acquire({ key: uniqueKey(), ttlMs: 30_000 })
        await held.extend(30_000)
        await held.release()
      }
      await warm()
      await warm()
      const key = uniqueKey()
      let held
      for (const [what, operation] of [
        ['acquire', async () => (held = await backend.acquire({ key, ttlMs: 30_000 }))],
        ['refused acquire', () => backend.acquire({ key, ttlMs: 30_000 })],
        ['extend', () => held.extend(40_000)],
        ['extend by lock id', () => backend.extend({ lockId: held.lockId, ttlMs: 30_000 })],
        ['release', () => held.release()]
      ]) {
        const requests = await fixture.requestsDuring(operation)
        assert.equal(requests.length, fixture.trips[what] ?? 1, `${what}: ${requests.join(' | ').slice(0, 300)}`)
      }
    })

    test('a fence that would overflow is an Internal error, and nothing is written', async () => {
      const key = uniqueKey()
      await fixture.setFence(key, '900000000000000')
      const error = await rejectsWith(fixture.open().acquire({ key, ttlMs: 1000 }), 'Internal')
      assert.equal(error.context.outcome, 'not-applied')
      const { lock, fence } = await fixture.records(key)
      assert.equal(lock, null)
      assert.equal(String(fence), '900000000000000')
    })

    test('the next fence is above a counter that runs ahead of the clock', async () => {
      const key = uniqueKey()
      await fixture.setFence(key, '050000000000000'.replace(/^0/, ''))
      const held = await fixture.open().acquire({ key, ttlMs: 1000 })
      assert.equal(held.fence, '050000000000001')
    })

    test('a fence above the warning threshold is granted, with a warning that names it and the key', async (t) => {
      const key = uniqueKey()
      const warned = []
      t.mock.method(console, 'warn', (...args) => warned.push(args.join(' ')))
      await fixture.setFence(key, '90000000000000')
      const held = await fixture.open().acquire({ key, ttlMs: 1000 })
      assert.equal(held.fence, '090000000000001')
      assert.equal(warned.length, 1)
      assert.match(warned[0], /^\[SyncGuard\] fence=90000000000001\b/)
      assert.ok(warned[0].includes(key))
    })

    test('a counter of the original library is read, and outgrown', async () => {
      const key = uniqueKey()
      await fixture.setFence(key, '1')
      const held = await fixture.open().acquire({ key, ttlMs: 1000 })
      assert.ok(held.fence > '000000000000001' && held.fence.length === 15)
    })
  },
  { where: overNetwork }
)
