// Section 2: withTelemetry and the look-ups, over real stores.
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { test } from 'node:test'
import { generateLockId, getById, getByIdRaw, getByKey, getByKeyRaw, hashKey, lock, owns, withTelemetry } from 'syncguard'
import { isGrant, rejectsWith, tellsNoSecret } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { sleep, until } from '../support/wait.mjs'
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
    for (const [includeRaw, raw] of [[true, true], [() => true, true], [({ type }) => type === 'acquire', true], [() => false, false], [() => { throw new Error('mine') }, false]]) {
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
})

eachBackend(
  (fixture) => {
    // The layer never got the grant, so it has no handle to release: only the lock id of the attempt is known.
    const layered = async (options) => {
      const { proxy, open } = await fixture.proxied()
      const backend = withTelemetry(open({ ...(fixture.name === 'postgres' && { poolSize: 1 }), ...options }), { onEvent() {} })
      await (await backend.acquire({ key: uniqueKey(), ttlMs: 1000 })).release()
      return { proxy, backend, key: uniqueKey('swallowed') }
    }
    const isFreed = (key) => until(async () => !(await fixture.observer.isLocked({ key })), { timeoutMs: 5000, what: 'the release of the lost grant' })

    test('lock() over withTelemetry: a grant whose reply was lost is released', async () => {
      const { proxy, backend, key } = await layered({ operationTimeoutMs: 400 })
      const swallowed = proxy.swallowReplyTo(fixture.inGrant(key), { keep: true })
      const work = lock(backend, () => assert.fail('not held'), { key, ttlMs: 60_000, acquisition: { maxRetries: 0 } })
      const error = await rejectsWith(work, 'NetworkTimeout')
      assert.equal(error.context.outcome, 'unknown')
      ;(await swallowed).reset()
      await isFreed(key)
    })

    test('lock() over withTelemetry: a grant on its way to a caller who has aborted is released', async () => {
      const { proxy, backend, key } = await layered({ operationTimeoutMs: 1000 })
      const controller = new AbortController()
      const held = proxy.holdReplyTo(fixture.inGrant(key))
      const work = rejectsWith(() => lock(backend, () => assert.fail('not held'), { key, ttlMs: 60_000, signal: controller.signal }), 'Aborted')
      const connection = await held
      await until(() => fixture.observer.isLocked({ key }), { what: 'the grant at the store' })
      controller.abort()
      await work
      connection.toClient.thaw()
      await isFreed(key)
    })
  },
  { where: overNetwork }
)
