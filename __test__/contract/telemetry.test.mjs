// Section 2: withTelemetry and the look-ups, over real stores.
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { test } from 'node:test'
import { generateLockId, getById, getByIdRaw, getByKey, getByKeyRaw, hashKey, lock, owns, withTelemetry } from 'syncguard'
import { isGrant, rejectsWith, tellsNoSecret } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { deferred, sleep, timed, until } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'

eachBackend((fixture) => {
  test('getByKey, getById, owns and their raw forms', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    assert.equal(await getByKey(backend, key), null)
    assert.equal(await getByKeyRaw(backend, key), null)
    const held = isGrant(await backend.acquire({ key, ttlMs: 30_000 }))
    const info = await getByKey(backend, key)
    assert.deepEqual(await getById(backend, held.lockId), info)
    assert.deepEqual(await getByKeyRaw(backend, key), { ...info, key, lockId: held.lockId })
    assert.deepEqual(await getByIdRaw(backend, held.lockId), { ...info, key, lockId: held.lockId })
    assert.equal(await owns(backend, held.lockId), true)
    assert.equal(await owns(backend, generateLockId()), false)
    for (const printed of [inspect(info, { showHidden: true, depth: 9 }), JSON.stringify(info)]) tellsNoSecret(printed, key, held.lockId)
    await held.release()
    assert.equal(await getByIdRaw(backend, held.lockId), null)
    assert.equal(await owns(backend, held.lockId), false)
    await rejectsWith(() => getByKey(backend, ''), 'InvalidArgument')
    await rejectsWith(() => owns(backend, 'short'), 'InvalidArgument')
  })

  test('withTelemetry tells of every operation, with hashes only', async () => {
    const events = []
    const backend = withTelemetry(fixture.open(), { onEvent: (event) => events.push(event) })
    const key = uniqueKey('secret')
    const held = await backend.acquire({ key, ttlMs: 150 })
    await backend.acquire({ key, ttlMs: 1000 })
    await backend.isLocked({ key })
    await backend.lookup({ key })
    await held.extend(100)
    await held.release()
    await backend.release({ lockId: generateLockId() })
    await backend.extend({ lockId: generateLockId(), ttlMs: 1000 })
    await backend.lookup({ key })
    const short = events.map(({ type, result, reason }) => [type, result, reason].filter(Boolean).join(' '))
    assert.deepEqual(short, [
      ...['acquire ok', 'acquire fail locked', 'isLocked ok', 'lookup ok', 'extend ok', 'release ok'],
      ...['release fail not-found', 'extend fail not-found', 'lookup fail not-found']
    ])
    const [acquired] = events
    assert.equal(acquired.keyHash, hashKey(key))
    assert.equal(acquired.lockIdHash, hashKey(held.lockId))
    assert.ok(acquired.durationMs >= 0)
    tellsNoSecret(inspect(events, { depth: 9, showHidden: true }), key, held.lockId)
  })

  test('an expired lease is told apart from none, where its record is still there', async () => {
    const events = []
    const backend = withTelemetry(fixture.open(), { onEvent: (event) => events.push(event) })
    const { lockId } = await backend.acquire({ key: uniqueKey(), ttlMs: 40 })
    await sleep(fixture.freeAfter(40))
    await fixture.open().extend({ lockId, ttlMs: 1000 })
    const other = withTelemetry(fixture.open(), { onEvent: (event) => events.push(event) })
    await other.extend({ lockId, ttlMs: 1000 })
    await other.release({ lockId })
    for (const { type, result, reason } of events.slice(1)) {
      assert.equal(result, 'fail', type)
      assert.match(reason, fixture.name === 'redis' ? /^not-found$/ : /^(expired|not-found)$/, type)
    }
  })

  test('includeRaw allows key and lock id, as a flag or by a predicate; a throwing one means no', async () => {
    const key = uniqueKey()
    for (const [includeRaw, raw] of [
      [true, true],
      [() => true, true],
      [({ type }) => type === 'acquire', true],
      [() => false, false],
      [
        () => {
          throw new Error('mine')
        },
        false
      ]
    ]) {
      const events = []
      const backend = withTelemetry(fixture.open(), { onEvent: (event) => events.push(event), includeRaw })
      const held = await backend.acquire({ key, ttlMs: 1000 })
      assert.deepEqual([events[0].key, events[0].lockId], raw ? [key, held.lockId] : [undefined, undefined])
      await held.release()
    }
  })

  test('what onEvent throws changes nothing; errors are told by code', async () => {
    const events = []
    const backend = withTelemetry(fixture.open(), {
      onEvent: (event) => {
        events.push(event)
        throw new Error('mine')
      }
    })
    const held = isGrant(await backend.acquire({ key: uniqueKey(), ttlMs: 1000 }))
    assert.deepEqual(await held.release(), { ok: true })
    await rejectsWith(() => backend.acquire({ key: '', ttlMs: 1000 }), 'InvalidArgument')
    const { result, error } = events.at(-1)
    assert.equal(result, 'fail')
    assert.match(String(error), /InvalidArgument/)
  })

  test('lock() over withTelemetry tells of its acquire and release', async () => {
    const events = []
    const backend = withTelemetry(fixture.open(), { onEvent: ({ type, result }) => events.push(`${type} ${result}`) })
    await lock(backend, () => {}, { key: uniqueKey() })
    assert.deepEqual(events, ['acquire ok', 'release ok'])
  })

  test('lock() over withTelemetry waits in one line with those who use the backend itself', async () => {
    const events = []
    const native = fixture.open()
    const observed = withTelemetry(native, { onEvent: ({ type, result, reason }) => events.push([type, result, reason].join(' ').trim()) })
    const key = uniqueKey()
    const inside = deferred()
    const order = []
    const acquisition = { timeoutMs: 60_000, retryDelayMs: 25_000, backoff: 'fixed', jitter: 'none' }
    const work = [native, observed, native, observed].map((backend, i) =>
      lock(
        backend,
        async (handle) => {
          order.push(i)
          if (i === 0) await inside.promise
          assert.ok(handle.isValid())
        },
        { key, acquisition }
      )
    )
    await until(() => order.length === 1, { what: 'the first one inside' })
    const { ms } = await timed(async () => {
      inside.resolve()
      await Promise.all(work)
    })
    assert.deepEqual(order, [0, 1, 2, 3])
    assert.ok(ms < 5000, `all were inside after ${ms} ms, by hand-over or wake-up`)
    assert.deepEqual(
      events.filter((event) => event !== 'acquire fail locked'),
      ['acquire ok', 'release ok', 'acquire ok', 'release ok']
    )
  })

  test('lock() over withTelemetry tells of each refused attempt, and whom it names', async () => {
    const events = []
    const native = fixture.open()
    const observed = withTelemetry(native, { onEvent: (event) => events.push(event), includeRaw: true })
    const key = uniqueKey()
    const held = await fixture.open().acquire({ key, ttlMs: 30_000 })
    await rejectsWith(
      lock(observed, () => assert.fail('granted'), {
        key,
        acquisition: { maxRetries: 2, retryDelayMs: 5, backoff: 'fixed', jitter: 'none', wait: 'poll' }
      }),
      'AcquisitionTimeout'
    )
    assert.equal(events.length, 3)
    for (const { durationMs, ...event } of events) {
      assert.ok(Number.isInteger(durationMs) && durationMs >= 0)
      assert.deepEqual(event, { type: 'acquire', keyHash: hashKey(key), result: 'fail', reason: 'locked', key })
    }
    await held.release()
    const { lockId } = await lock(observed, (handle) => handle, { key })
    const lockIdHash = hashKey(lockId)
    assert.deepEqual(
      events.slice(3).map(({ durationMs, ...event }) => event),
      ['acquire', 'release'].map((type) => ({ type, keyHash: hashKey(key), lockIdHash, result: 'ok', key, lockId }))
    )
  })
})

eachBackend(
  (fixture) => {
    for (const [what, keep, acquisition, code] of [
      ['a connection broke', false, { maxRetries: 0 }, 'ServiceUnavailable'],
      ['the store hung', true, { maxRetries: 0 }, 'NetworkTimeout'],
      ['the time was over', true, { timeoutMs: 200 }, 'NetworkTimeout']
    ]) {
      test(`lock() over withTelemetry takes back a grant whose reply was lost: ${what}`, async () => {
        const { proxy, open } = await fixture.proxied()
        const native = open({ operationTimeoutMs: 400 })
        const [inner, outer] = [[], []]
        const tellTo = (events) => ({ onEvent: ({ type, result, error }) => events.push([type, result, error].join(' ').trim()) })
        const backend = withTelemetry(withTelemetry(native, tellTo(inner)), tellTo(outer))
        await (await backend.acquire({ key: uniqueKey(), ttlMs: 1000 })).release()
        const key = uniqueKey('swallowed')
        const swallowed = proxy.swallowReplyTo(fixture.inGrant(key), { keep })
        const error = await rejectsWith(
          lock(backend, () => assert.fail('granted'), { key, ttlMs: 60_000, acquisition }),
          code
        )
        assert.equal(error.context.outcome, 'unknown')
        ;(await swallowed).reset()
        await until(async () => !(await fixture.observer.isLocked({ key })), { timeoutMs: 4000, what: 'the release of the lost grant' })
        await until(() => outer.at(-1) === 'release ok', { timeoutMs: 4000, what: 'the event of that release' })
        assert.equal(outer[2], `acquire fail ${code}`)
        assert.deepEqual(inner, outer)
      })
    }

    test('a function that releases by itself costs one release, also over withTelemetry', async () => {
      const backend = withTelemetry(fixture.open(), { onEvent() {} })
      await (await backend.acquire({ key: uniqueKey(), ttlMs: 1000 })).release()
      const requests = await fixture.requestsDuring(() => lock(backend, ({ release }) => release(), { key: uniqueKey() }))
      assert.equal(requests.length, (fixture.trips.acquire ?? 1) + 1, requests.join('\n'))
    })
  },
  { where: overNetwork }
)
