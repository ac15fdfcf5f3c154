// Sections 5 and 6: every operation has a deadline, timeoutMs is hard, abort is at once, lost replies are told truly.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generateLockId, getByKeyRaw, lock, withTelemetry } from 'syncguard'
import { isGrant, isLockError, rejectsWith } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { Lag } from '../support/lag.mjs'
import { freePort } from '../support/server-process.mjs'
import { skipWithout } from '../support/needs.mjs'
import { RedisServer } from '../support/servers.mjs'
import { settingUp, sleep, timed, until } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'
import { createRedisBackend } from 'syncguard/redis'

// As the contract says.
const SLACK_MS = 50

eachBackend(
  (fixture) => {
    test('operations on a store that hangs are NetworkTimeout within operationTimeoutMs', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 300 })
      const observed = withTelemetry(backend, { onEvent() {} })
      let key
      const held = await settingUp(() => backend.acquire({ key: (key = uniqueKey()), ttlMs: 30_000 }))
      proxy.freeze()
      for (const [what, operation, outcome] of [
        ['acquire', () => backend.acquire({ key: uniqueKey(), ttlMs: 1000 }), 'unknown'],
        ['extend', () => held.extend(30_000), 'unknown'],
        ['isLocked', () => backend.isLocked({ key }), 'not-applied'],
        ['lookup by key', () => backend.lookup({ key }), 'not-applied'],
        ['lookup by lockId', () => backend.lookup({ lockId: held.lockId }), 'not-applied'],
        ['lookup through a wrapper', () => observed.lookup({ key }), 'not-applied'],
        ['lookup with the raw key', () => getByKeyRaw(backend, key), 'not-applied'],
        ['release', () => backend.release({ lockId: generateLockId() }), 'unknown'],
        ['release of a handle', () => held.release(), 'unknown']
      ]) {
        const { ms, lagMs, error } = await timed(operation)
        isLockError(error, 'NetworkTimeout', what)
        assert.ok(ms >= 280 && ms < 300 + SLACK_MS + lagMs, `${what} took ${ms} ms, ${lagMs} of them the machine's`)
        assert.equal(error.context.retryable, true, what)
        assert.equal(error.context.outcome, outcome, what)
      }
    })

    test('the first connection to a store that hangs is NetworkTimeout, too', async () => {
      const { proxy, open } = await fixture.proxied()
      proxy.freeze()
      const backend = open({ operationTimeoutMs: 300, connectTimeoutMs: 300 })
      const { ms, lagMs, error } = await timed(() => backend.acquire({ key: uniqueKey(), ttlMs: 1000 }))
      isLockError(error, 'NetworkTimeout')
      assert.ok(ms < 300 + SLACK_MS + lagMs, `took ${ms} ms, ${lagMs} of them the machine's`)
    })

    test('nobody listens: ServiceUnavailable, not applied, retryable', async () => {
      const backend = fixture.open({}, fixture.targetAt(await freePort()))
      const error = await rejectsWith(backend.acquire({ key: uniqueKey(), ttlMs: 1000 }), 'ServiceUnavailable')
      assert.equal(error.context.outcome, 'not-applied')
      assert.equal(error.context.retryable, true)
      assert.ok(error.cause !== undefined, 'the cause is kept')
    })

    test('an extend of unknown outcome keeps the earlier deadline', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 150 })
      const held = await settingUp(() => backend.acquire({ key: uniqueKey(), ttlMs: 8000 }))
      proxy.freeze()
      await rejectsWith(held.extend(60_000), 'NetworkTimeout')
      const remaining = held.remainingMs()
      assert.ok(held.isValid() && remaining > 3000 && remaining <= 8000, `remainingMs ${remaining}`)
    })

    test('timeoutMs is hard while a call hangs, and the error is what happened', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open()
      await backend.isLocked({ key: uniqueKey() })
      proxy.freeze()
      const { ms, lagMs, error } = await timed(() => lock(backend, () => assert.fail('fn ran'), { key: uniqueKey(), acquisition: { timeoutMs: 400 } }))
      isLockError(error, 'NetworkTimeout', 'no attempt was answered')
      assert.ok(ms >= 350 && ms < 400 + SLACK_MS + lagMs, `settled after ${ms} ms, ${lagMs} of them the machine's`)
    })

    test('timeoutMs is hard while waiting', async () => {
      const backend = fixture.open()
      const key = uniqueKey()
      await backend.acquire({ key, ttlMs: 30_000 })
      for (const wait of ['notify', 'poll']) {
        const acquisition = { timeoutMs: 350, wait, maxRetries: 1000 }
        // The last attempt starts two round trips of an acquire (of at most two requests) ahead of the deadline.
        const store = new Lag(() => fixture.observer.isLocked({ key: 'another' }))
        const { ms, lagMs, error } = await timed(() => lock(backend, () => assert.fail('fn ran'), { key, acquisition }))
        const leadMs = Math.max(100, 4 * (await store.stop()).worstMs)
        isLockError(error, 'AcquisitionTimeout')
        assert.ok(ms >= 350 - leadMs && ms < 350 + SLACK_MS + lagMs, `${wait}: settled after ${ms} ms, ${lagMs} of them the machine's`)
      }
    })

    test('a store that is down: retried, and then the error that happened, not AcquisitionTimeout', async () => {
      const backend = fixture.open({}, fixture.targetAt(await freePort()))
      const acquisition = { timeoutMs: 500, retryDelayMs: 30 }
      const { ms, lagMs, error } = await timed(() => lock(backend, () => assert.fail('fn ran'), { key: uniqueKey(), acquisition }))
      isLockError(error, 'ServiceUnavailable')
      assert.ok(ms < 500 + SLACK_MS + lagMs, `settled after ${ms} ms, ${lagMs} of them the machine's`)
    })

    test('a store that comes back while waiting: the lock is granted', async () => {
      const { proxy, open } = await fixture.proxied()
      proxy.refuse()
      const acquisition = { timeoutMs: 8000, maxRetries: 1000, retryDelayMs: 30, backoff: 'fixed' }
      const work = lock(open(), () => 'inside', { key: uniqueKey(), acquisition })
      await sleep(300)
      proxy.refuse(false)
      assert.equal(await work, 'inside')
    })

    test('abort in the middle of a call rejects at once, and the late grant is released', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open()
      await lock(backend, () => {}, { key: uniqueKey() })
      for (const wrap of [(key, signal) => backend.acquire({ key, ttlMs: 30_000, signal }), (key, signal) => lock(backend, () => assert.fail('fn ran'), { key, signal })]) {
        const key = uniqueKey()
        const held = proxy.holdReplyTo(fixture.inGrant(key))
        const controller = new AbortController()
        const call = wrap(key, controller.signal)
        call.catch(() => {})
        await until(() => fixture.observer.isLocked({ key }), { what: 'the grant at the store' })
        const { ms, lagMs, error } = await timed(async () => {
          controller.abort()
          await call
        })
        isLockError(error, 'Aborted')
        assert.ok(ms < 50 + lagMs, `aborted after ${ms} ms, ${lagMs} of them the machine's`)
        ;(await held).toClient.thaw()
        await until(async () => !(await fixture.observer.isLocked({ key })), { what: 'the release of the late grant' })
      }
    })

    test('a signal that is aborted before the call rejects without I/O', async () => {
      const backend = fixture.open()
      const key = uniqueKey()
      const held = await backend.acquire({ key, ttlMs: 30_000 })
      const signal = AbortSignal.abort()
      const requests = await fixture.requestsDuring(async () => {
        await rejectsWith(() => backend.acquire({ key: uniqueKey(), ttlMs: 1000, signal }), 'Aborted')
        await rejectsWith(() => backend.isLocked({ key, signal }), 'Aborted')
        await rejectsWith(() => backend.lookup({ key, signal }), 'Aborted')
        await rejectsWith(() => backend.extend({ lockId: held.lockId, ttlMs: 1000, signal }), 'Aborted')
        await rejectsWith(() => backend.release({ lockId: held.lockId, signal }), 'Aborted')
        await rejectsWith(() => held.extend(1000, signal), 'Aborted')
        await rejectsWith(() => held.release(signal), 'Aborted')
        await rejectsWith(() => lock(backend, () => {}, { key, signal }), 'Aborted')
      })
      assert.deepEqual(requests, [])
      assert.ok(held.isValid())
      assert.deepEqual(await held.release(), { ok: true })
    })

    test('a lease whose reply was lost is reclaimed under the same lock id and fence', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 1000 })
      await (await backend.acquire({ key: uniqueKey(), ttlMs: 1000 })).release()
      const key = uniqueKey('swallowed')
      const swallowed = proxy.swallowReplyTo(fixture.inGrant(key))
      const work = lock(backend, ({ lockId, fence }) => ({ lockId, fence }), { key, ttlMs: 30_000, acquisition: { timeoutMs: 4000, retryDelayMs: 30 } })
      await swallowed
      const seen = await getByKeyRaw(fixture.observer, key)
      assert.ok(seen, 'the lost attempt was granted at the store')
      const reclaimed = await work
      assert.deepEqual(reclaimed, { lockId: seen.lockId, fence: seen.fence })
      assert.equal(await fixture.observer.isLocked({ key }), false)
    })

    test('a single acquire whose reply was lost says so, and is undone', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 400 })
      await (await backend.acquire({ key: uniqueKey(), ttlMs: 1000 })).release()
      const key = uniqueKey('swallowed')
      const swallowed = proxy.swallowReplyTo(fixture.inGrant(key), { keep: true })
      const error = await rejectsWith(backend.acquire({ key, ttlMs: 30_000 }), 'NetworkTimeout')
      assert.equal(error.context.outcome, 'unknown')
      const connection = await swallowed
      connection.reset()
      await until(async () => !(await fixture.observer.isLocked({ key })), { timeoutMs: 5000, what: 'the release of the lost grant' })
    })

    test('a connection that breaks in the middle of a call is an error of unknown outcome', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 2000 })
      const key = uniqueKey()
      const held = await backend.acquire({ key, ttlMs: 30_000 })
      const swallowed = proxy.swallowReplyTo(fixture.inExtend({ key, ...held }))
      const error = await held.extend(60_000).then(
        () => undefined,
        (thrown) => thrown
      )
      await swallowed
      if (error !== undefined) {
        assert.match(error.code, /ServiceUnavailable|NetworkTimeout/)
        assert.equal(error.context.outcome, 'unknown')
      }
      assert.ok(held.isValid())
      assert.equal((await held.extend(60_000)).ok, true, 'and the next call works again')
    })

    test('replies that come byte by byte are understood', async () => {
      const { proxy, open } = await fixture.proxied()
      proxy.onConnection(({ toClient, toServer }) => (toClient.trickle(), fixture.takesSlowRequests && toServer.trickle()))
      // PostgreSQL's statements are some thousand bytes.
      const patient = { operationTimeoutMs: 30_000, connectTimeoutMs: 30_000 }
      const held = isGrant(await open(patient).acquire({ key: uniqueKey(), ttlMs: 60_000 }))
      assert.deepEqual(await held.release(), { ok: true })
    })
  },
  { where: overNetwork }
)

test('a Redis server that is stopped (SIGSTOP): hard deadlines, and recovery', { skip: skipWithout('redis') }, async (t) => {
  const server = await RedisServer.start()
  const backend = createRedisBackend(server.url, { operationTimeoutMs: 300 })
  t.after(async () => (await backend.close(), server.stop()))
  const held = await backend.acquire({ key: 'a', ttlMs: 30_000 })
  server.freeze()
  const call = await timed(() => held.extend(30_000))
  isLockError(call.error, 'NetworkTimeout')
  const waiting = await timed(() => lock(backend, () => {}, { key: 'b', acquisition: { timeoutMs: 700 } }))
  isLockError(waiting.error, 'NetworkTimeout')
  assert.ok(waiting.ms < 700 + SLACK_MS + waiting.lagMs, `settled after ${waiting.ms} ms, ${waiting.lagMs} of them the machine's`)
  server.thaw()
  assert.equal((await held.extend(30_000)).ok, true)
  assert.equal(await lock(backend, () => 'inside', { key: 'b', acquisition: { timeoutMs: 5000 } }), 'inside')
})

test('a Redis that refuses: AuthFailed, not retried', { skip: skipWithout('redis') }, async (t) => {
  const server = await RedisServer.start({ password: 'correct-horse' })
  t.after(() => server.stop())
  const url = `redis://:wrong-canary@127.0.0.1:${server.port}`
  const backend = createRedisBackend(url)
  t.after(() => backend.close())
  const { ms, lagMs, error } = await timed(() => lock(backend, () => {}, { key: 'a' }))
  isLockError(error, 'AuthFailed')
  assert.ok(ms < 1500 + lagMs, `not retried: ${ms} ms`)
  assert.equal(error.context.retryable, false)
  for (const told of [error.message, error.stack, String(error.cause?.stack ?? error.cause), JSON.stringify(error)]) {
    assert.ok(!told?.includes('wrong-canary'), told)
  }
  const good = createRedisBackend(server.url)
  t.after(() => good.close())
  isGrant(await good.acquire({ key: 'a', ttlMs: 1000 }))
})
