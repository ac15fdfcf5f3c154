// Section 2, lock() and the functions of createLock.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lock, LockError, withTelemetry } from 'syncguard'
import { isLockError, rejectsWith } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { startSource } from '../support/processes.mjs'
import { deferred, sleep, timed, until } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'

eachBackend((fixture) => {
  for (const [what, open] of [
    [
      'lock(backend, …)',
      () => {
        const backend = fixture.open()
        return { backend, run: (fn, config) => lock(backend, fn, config) }
      }
    ],
    ['the function of createLock', () => ({ backend: fixture.open(), run: fixture.openLock() })],
    [
      'lock() over withTelemetry',
      () => {
        const backend = withTelemetry(fixture.open(), { onEvent: () => {} })
        return { backend, run: (fn, config) => lock(backend, fn, config) }
      }
    ]
  ]) {
    test(`${what} runs fn while holding the lock, answers its result, and releases`, async () => {
      const { backend, run } = open()
      const key = uniqueKey()
      const result = await run(
        async (handle) => {
          assert.equal(handle.ok, true)
          assert.match(handle.fence, /^\d{15}$/)
          assert.ok(handle.isValid() && handle.remainingMs() > 20_000, 'ttlMs is 30 s by default')
          assert.equal(handle.signal.aborted, false)
          assert.equal(await backend.isLocked({ key }), true)
          return 'result'
        },
        { key }
      )
      assert.equal(result, 'result')
      assert.equal(await backend.isLocked({ key }), false)
      assert.equal(await run(() => 5, { key }), 5, 'fn may be synchronous')
    })

    test(`${what}: what fn throws is what the caller sees, and the lock is released`, async () => {
      const { backend, run } = open()
      const key = uniqueKey()
      for (const thrown of [new Error('mine'), new TypeError('mine'), 'a text', undefined]) {
        const outcome = await Promise.allSettled([
          run(
            () => {
              throw thrown
            },
            { key }
          )
        ])
        assert.deepEqual([outcome[0].status, outcome[0].reason], ['rejected', thrown])
        assert.equal(await backend.isLocked({ key }), false)
      }
    })

    test(`${what}: only one is inside at a time`, async () => {
      const { run } = open()
      const key = uniqueKey()
      let inside = 0
      let last = ''
      await Promise.all(
        Array.from({ length: 12 }, () =>
          run(
            async ({ fence }) => {
              assert.equal(++inside, 1)
              assert.ok(fence > last)
              last = fence
              await sleep(3)
              inside--
            },
            { key, acquisition: { timeoutMs: 20_000, maxRetries: 1000 } }
          )
        )
      )
    })

    test(`${what}: AcquisitionTimeout when the lock stays held, and fn does not run`, async () => {
      const { backend, run } = open()
      const key = uniqueKey()
      await backend.acquire({ key, ttlMs: 30_000 })
      const { ms, lagMs, error } = await timed(() => run(() => assert.fail('fn ran'), { key, acquisition: { timeoutMs: 300 } }))
      isLockError(error, 'AcquisitionTimeout')
      assert.ok(ms > 200 && ms < 350 + lagMs, `settled after ${ms} ms, ${lagMs} of them the machine's`)
    })
  }

  test('maxRetries bounds the attempts, and 0 is one attempt', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    await backend.acquire({ key, ttlMs: 30_000 })
    const few = await timed(() => lock(backend, () => {}, { key, acquisition: { maxRetries: 2, retryDelayMs: 20, backoff: 'fixed', jitter: 'none', wait: 'poll' } }))
    isLockError(few.error, 'AcquisitionTimeout')
    assert.ok(few.ms >= 35 && few.ms < 1500 + few.lagMs, `two retries of 20 ms: ${few.ms} ms`)
    const none = await timed(() => lock(backend, () => {}, { key, acquisition: { maxRetries: 0 } }))
    isLockError(none.error, 'AcquisitionTimeout')
    assert.ok(none.ms < 500 + none.lagMs, `one attempt: ${none.ms} ms`)
  })

  test('a lease lost while fn ran: fn goes on, its result is answered, onLeaseLost hears of it once', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    const losses = []
    const result = await lock(
      backend,
      async ({ signal, isValid, lockId }) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
        isLockError(signal.reason, 'LeaseLost')
        assert.equal(isValid(), false)
        return lockId
      },
      { key, ttlMs: 150, onLeaseLost: (...args) => losses.push(args) }
    )
    assert.equal(losses.length, 1)
    const [error, context] = losses[0]
    isLockError(error, 'LeaseLost')
    assert.deepEqual([context.key, context.lockId], [key, result])
    assert.match(context.fence, /^\d{15}$/)
  })

  test('a loss that nobody listens for is one process warning', async () => {
    const backend = fixture.open()
    const warnings = []
    const listen = (warning) => warnings.push(warning)
    process.on('warning', listen)
    try {
      const key = uniqueKey('secret')
      await lock(backend, () => sleep(150), { key, ttlMs: 60 })
      await sleep(20)
      const ours = warnings.filter(({ message }) => /lease|lock/i.test(message))
      assert.equal(ours.length, 1)
      assert.ok(!ours[0].message.includes(key))
    } finally {
      process.off('warning', listen)
    }
  })

  test('aborting the work does not leave the lock behind', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    const controller = new AbortController()
    const inside = deferred()
    const work = lock(
      backend,
      async () => {
        inside.resolve()
        await new Promise((_, reject) => controller.signal.addEventListener('abort', () => reject(new Error('stopped'))))
      },
      { key, signal: controller.signal }
    )
    await inside.promise
    controller.abort()
    await assert.rejects(work, /stopped/)
    assert.equal(await backend.isLocked({ key }), false)
  })

  test('a signal that is aborted while waiting, or before, rejects with Aborted at once', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    await backend.acquire({ key, ttlMs: 30_000 })
    for (const place of ['signal', 'acquisition']) {
      const controller = new AbortController()
      const config = place === 'signal' ? { key, signal: controller.signal } : { key, acquisition: { signal: controller.signal } }
      const waiting = lock(backend, () => assert.fail('fn ran'), config)
      await sleep(60)
      const { ms, lagMs, error } = await timed(async () => {
        controller.abort(new Error('my reason'))
        await waiting
      })
      isLockError(error, 'Aborted')
      assert.ok(ms < 50 + lagMs, `aborted after ${ms} ms, ${lagMs} of them the machine's`)
      await rejectsWith(() => lock(backend, () => assert.fail('fn ran'), config), 'Aborted')
    }
  })

  test('signals are listened to and left as they were', async () => {
    const backend = fixture.open()
    const controller = new AbortController()
    const { signal } = controller
    let listeners = 0
    const mine = () => {}
    signal.onabort = mine
    const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)]
    signal.addEventListener = (...args) => (listeners++, add(...args))
    signal.removeEventListener = (...args) => (listeners--, remove(...args))
    const key = uniqueKey()
    await lock(backend, () => {}, { key, signal, acquisition: { signal } })
    const held = await backend.acquire({ key, ttlMs: 1000, signal })
    await backend.isLocked({ key, signal })
    await backend.lookup({ key, signal })
    await held.extend(1000, signal)
    await held.release(signal)
    assert.equal(signal.onabort, mine)
    assert.equal(listeners, 0, 'every listener was taken off again')
  })

  test('the waiters of one process are served in order', async () => {
    const run = fixture.openLock()
    const key = uniqueKey()
    const order = []
    await run(
      async () => {
        for (let i = 0; i < 10; i++) {
          const acquisition = { timeoutMs: 20_000, maxRetries: 1000 }
          run(() => order.push(i), { key, acquisition }).catch((error) => order.push(error))
          await sleep(5)
        }
      },
      { key }
    )
    await until(() => order.length === 10, { timeoutMs: 10_000 })
    assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  test('an abort in the middle of the queue leaves the order intact', async () => {
    const run = fixture.openLock()
    const key = uniqueKey()
    const order = []
    const controller = new AbortController()
    const acquisition = { timeoutMs: 20_000, maxRetries: 1000 }
    const waiting = []
    await run(
      async () => {
        for (let i = 0; i < 5; i++) {
          const signal = i === 1 || i === 2 ? controller.signal : undefined
          waiting.push(run(() => order.push(i), { key, acquisition, signal }))
          waiting.at(-1).catch(() => {})
          await sleep(5)
        }
        controller.abort()
        await sleep(10)
      },
      { key }
    )
    const outcomes = await Promise.allSettled(waiting)
    assert.deepEqual(order, [0, 3, 4])
    assert.deepEqual(
      outcomes.map(({ reason }) => reason?.code),
      [undefined, 'Aborted', 'Aborted', undefined, undefined]
    )
  })

  test('a lock taken inside fn on another key works, on the same key times out', async () => {
    const run = fixture.openLock()
    const key = uniqueKey()
    await run(
      async () => {
        assert.equal(await run(() => 'inner', { key: uniqueKey() }), 'inner')
        await rejectsWith(() => run(() => {}, { key, acquisition: { timeoutMs: 200 } }), 'AcquisitionTimeout')
      },
      { key }
    )
  })
})

eachBackend(
  (fixture) => {
    test('a release that fails after fn goes to onReleaseError; fn decides the outcome', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 200 })
      const reports = []
      const result = await lock(
        backend,
        () => {
          proxy.freeze()
          return 'result'
        },
        { key: uniqueKey(), onReleaseError: (...args) => reports.push(args) }
      )
      assert.equal(result, 'result')
      assert.equal(reports.length, 1)
      isLockError(reports[0][0], 'NetworkTimeout')
      assert.equal(reports[0][1].source, 'disposal')
    })

    test('a failing release does not hide what fn threw', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 200 })
      const mine = new Error('mine')
      const work = lock(
        backend,
        () => {
          proxy.freeze()
          throw mine
        },
        { key: uniqueKey(), onReleaseError: () => {} }
      )
      await assert.rejects(work, (error) => error === mine)
    })
  },
  { where: overNetwork }
)

test('import and require share one implementation and one LockError', async () => {
  const program = startSource(
    `import { createRequire } from 'node:module'
     import * as esm from 'syncguard'
     import * as common from 'syncguard/common'
     import * as redis from 'syncguard/redis'
     const require = createRequire(import.meta.url)
     const [cjs, cjsCommon, cjsRedis] = [require('syncguard'), require('syncguard/common'), require('syncguard/redis')]
     let shared = esm.LockError === cjs.LockError && esm.LockError === common.LockError && common.LockError === cjsCommon.LockError
     for (const [one, other] of [[esm, cjs], [common, cjsCommon], [redis, cjsRedis]])
       for (const name of Object.keys(other)) shared &&= one[name] === other[name]
     try { redis.createRedisBackend('nonsense') } catch (error) { shared &&= error instanceof cjs.LockError }
     console.log(JSON.stringify({ is: 'result', shared }))`
  )
  assert.equal((await program.hear('result')).shared, true)
  await program.finish()
})

test('LockError is what the interface says', () => {
  const cause = new Error('why')
  const error = new LockError('Internal', 'text', { key: 'k', lockId: 'l', cause, retryable: true, outcome: 'unknown' })
  assert.ok(error instanceof Error)
  assert.deepEqual([error.name, error.code, error.message, error.cause], ['LockError', 'Internal', 'text', cause])
  assert.deepEqual([error.context.retryable, error.context.outcome, error.context.key], [true, 'unknown', 'k'])
  assert.equal(new LockError('Aborted').message, 'Aborted')
})
