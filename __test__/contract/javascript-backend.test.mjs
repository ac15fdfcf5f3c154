// lock() over a backend that is written in JavaScript goes through the same engine as the native ones.
import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createAutoLock, lock, LockError, withTelemetry } from 'syncguard/common'
import { createMemoryBackend, gate, unavailable } from '../support/javascript-backend.mjs'

const quick = { retryDelayMs: 5, backoff: 'fixed', jitter: 'none' }

const until = async (condition, what) => {
  for (const end = Date.now() + 5000; !condition(); await sleep(2)) {
    if (Date.now() > end) assert.fail(`never came: ${what}`)
  }
}

const warnings = []
process.on('warning', (warning) => warnings.push(warning))

test("runs the function with the backend's handle and releases", async () => {
  const backend = createMemoryBackend()
  const result = await lock(
    backend,
    async (handle) => {
      assert.equal(handle.ok, true)
      assert.equal(backend.leases.get('k').lockId, handle.lockId)
      assert.match(handle.fence, /^\d{15}$/)
      return 42
    },
    { key: 'k', ttlMs: 1234 }
  )
  assert.equal(result, 42)
  assert.equal(backend.leases.size, 0)
  assert.deepEqual(backend.calls.acquire, [{ key: 'k', ttlMs: 1234 }])
  assert.equal(backend.calls.release.length, 1)
})

test('ttlMs defaults to 30000', async () => {
  const backend = createMemoryBackend()
  await lock(backend, () => {}, { key: 'k' })
  assert.equal(backend.calls.acquire[0].ttlMs, 30000)
})

test('a backend that answers grants without methods works as well', async () => {
  const backend = createMemoryBackend({ decorated: false })
  await lock(
    backend,
    async (handle) => {
      assert.equal((await handle.extend(60000)).ok, true)
      assert.deepEqual(await handle.release(), { ok: true })
      assert.deepEqual(await handle.release(), { ok: false })
    },
    { key: 'k' }
  )
  assert.equal(backend.calls.release.length, 1, 'released by the function, so not again')
  assert.equal(backend.leases.size, 0)
})

test('exclusion: of twenty at once, each has it alone', async () => {
  const backend = createMemoryBackend()
  let inside = 0
  let turns = 0
  const work = async () => {
    assert.equal(++inside, 1)
    await sleep(1)
    inside--
    turns++
  }
  const acquisition = { ...quick, maxRetries: 1000, timeoutMs: 20000 }
  await Promise.all(Array.from({ length: 20 }, () => lock(backend, work, { key: 'k', acquisition })))
  assert.equal(turns, 20)
})

test('contention ends in AcquisitionTimeout after 1 + maxRetries attempts', async () => {
  const backend = createMemoryBackend()
  await backend.acquire({ key: 'k', ttlMs: 60000 })
  backend.calls.acquire.length = 0
  const attempt = lock(backend, () => assert.fail('not held'), { key: 'k', acquisition: { ...quick, maxRetries: 3 } })
  await assert.rejects(attempt, (error) => error instanceof LockError && error.code === 'AcquisitionTimeout')
  assert.equal(backend.calls.acquire.length, 4)
})

test('maxRetries: 0 is one attempt', async () => {
  const backend = createMemoryBackend()
  await backend.acquire({ key: 'k', ttlMs: 60000 })
  backend.calls.acquire.length = 0
  await assert.rejects(
    lock(backend, () => {}, { key: 'k', acquisition: { maxRetries: 0 } }),
    { code: 'AcquisitionTimeout' }
  )
  assert.equal(backend.calls.acquire.length, 1)
})

test('waits for a holder that lets go', async () => {
  const backend = createMemoryBackend()
  const holder = await backend.acquire({ key: 'k', ttlMs: 60000 })
  const waiter = lock(backend, () => 'got it', { key: 'k', acquisition: { ...quick, maxRetries: 1000 } })
  await until(() => backend.calls.acquire.length > 3, 'some attempts')
  await holder.release()
  assert.equal(await waiter, 'got it')
})

test('a retryable LockError is retried', async () => {
  const backend = createMemoryBackend({
    before: async (operation, _, count) => {
      if (operation === 'acquire' && count <= 2) throw unavailable()
    }
  })
  assert.equal(await lock(backend, () => 'in', { key: 'k', acquisition: quick }), 'in')
  assert.equal(backend.calls.acquire.length, 3)
})

test("running out of retries throws the backend's own last error", async () => {
  const errors = []
  const backend = createMemoryBackend({
    before: async (operation) => {
      if (operation !== 'acquire') return
      errors.push(unavailable())
      throw errors.at(-1)
    }
  })
  const error = await lock(backend, () => {}, { key: 'k', acquisition: { ...quick, maxRetries: 2 } }).catch((e) => e)
  assert.equal(error, errors.at(-1))
  assert.equal(errors.length, 3)
})

const endings = [
  ['an error that is no LockError', new TypeError('a bug')],
  ['something that is no Error', 'just a string'],
  ['AuthFailed', new LockError('AuthFailed')],
  ['NetworkTimeout, whose outcome is unknown', new LockError('NetworkTimeout')],
  ['a retryable NetworkTimeout, since its outcome is still unknown', new LockError('NetworkTimeout', '?', { retryable: true })],
  ['ServiceUnavailable that says retrying does not help', new LockError('ServiceUnavailable', 'gone', { retryable: false })],
  ['undefined', undefined]
]
for (const [what, thrown] of endings) {
  test(`ends at once, with the very LockError or what was thrown as its cause: ${what}`, async () => {
    const backend = createMemoryBackend({
      before: async (operation) => {
        if (operation === 'acquire') throw thrown
      }
    })
    const outcome = await lock(backend, () => {}, { key: 'k', acquisition: quick }).then(
      () => assert.fail('resolved'),
      (error) => ({ error })
    )
    if (thrown instanceof LockError) {
      assert.equal(outcome.error, thrown)
    } else {
      assert.ok(outcome.error instanceof LockError)
      assert.equal(outcome.error.code, 'Internal')
      assert.equal(outcome.error.cause, thrown)
      assert.equal(outcome.error.message, thrown instanceof Error ? thrown.message : String(thrown))
    }
    assert.equal(backend.calls.acquire.length, 1)
  })
}

test('an explicit context wins over the code: a NetworkTimeout that was not applied is retried', async () => {
  const backend = createMemoryBackend({
    before: async (operation, _, count) => {
      if (operation === 'acquire' && count === 1) {
        throw new LockError('NetworkTimeout', 'before it was sent', { retryable: true, outcome: 'not-applied' })
      }
    }
  })
  assert.equal(await lock(backend, () => 'in', { key: 'k', acquisition: quick }), 'in')
  assert.equal(backend.calls.acquire.length, 2)
})

test('an acquire() that throws instead of rejecting, and one that answers nonsense, are errors', async () => {
  const bug = new Error('synchronous')
  const throwing = {
    ...createMemoryBackend(),
    acquire: () => {
      throw bug
    }
  }
  assert.equal((await lock(throwing, () => {}, { key: 'k' }).catch((e) => e)).cause, bug)
  const odd = { ...createMemoryBackend(), acquire: async () => 'yes' }
  await assert.rejects(
    lock(odd, () => {}, { key: 'k' }),
    { code: 'Internal' }
  )
})

test('timeoutMs is a hard limit while a call hangs, and the late grant is released', async () => {
  const { opened, open } = gate()
  const backend = createMemoryBackend({ before: async (operation) => operation === 'acquire' && opened })
  const started = performance.now()
  await assert.rejects(
    lock(backend, () => assert.fail('too late'), { key: 'k', acquisition: { timeoutMs: 200 } }),
    {
      code: 'NetworkTimeout'
    }
  )
  assert.ok(performance.now() - started < 1500)
  open()
  await until(() => backend.calls.release.length === 1 && backend.leases.size === 0, 'the release of the late grant')
})

test('an abort in the middle of an attempt rejects at once, and the late grant is released', async () => {
  const { opened, open } = gate()
  const backend = createMemoryBackend({ before: async (operation) => operation === 'acquire' && opened })
  const controller = new AbortController()
  const reason = new Error('no longer needed')
  const attempt = lock(backend, () => assert.fail('aborted'), { key: 'k', signal: controller.signal })
  await until(() => backend.calls.acquire.length === 1, 'the attempt')
  assert.equal(backend.calls.acquire[0].signal, controller.signal)
  controller.abort(reason)
  await assert.rejects(attempt, (error) => error.code === 'Aborted' && error.cause === reason)
  open()
  await until(() => backend.calls.release.length === 1 && backend.leases.size === 0, 'the release of the late grant')
})

test('acquisition.signal aborts a wait, too; both signals together as well', async () => {
  for (const [first, second] of [
    [false, true],
    [true, true]
  ]) {
    const backend = createMemoryBackend()
    await backend.acquire({ key: 'k', ttlMs: 60000 })
    const [one, two] = [new AbortController(), new AbortController()]
    const attempt = lock(backend, () => {}, {
      key: 'k',
      ...(first && { signal: one.signal }),
      acquisition: { ...quick, retryDelayMs: 4000, ...(second && { signal: two.signal }) }
    })
    await until(() => backend.calls.acquire.length === 2, 'the first attempt')
    two.abort('second')
    await assert.rejects(attempt, (error) => error.code === 'Aborted' && error.cause === 'second')
  }
})

test('a signal that is aborted already: no attempt', async () => {
  const backend = createMemoryBackend()
  await assert.rejects(
    lock(backend, () => {}, { key: 'k', signal: AbortSignal.abort('r') }),
    { code: 'Aborted', cause: 'r' }
  )
  assert.equal(backend.calls.acquire.length, 0)
})

test('aborting the signal while the function runs leaves no lock behind', async () => {
  const backend = createMemoryBackend()
  const controller = new AbortController()
  await lock(backend, () => controller.abort(), { key: 'k', signal: controller.signal })
  assert.equal(backend.leases.size, 0)
  assert.deepEqual(Object.keys(backend.calls.release[0]), ['lockId'], 'the release does not get the signal')
})

test("the function's own error is what the caller sees, and the lock is released", async () => {
  const backend = createMemoryBackend()
  const own = new RangeError('mine')
  assert.equal(
    await lock(
      backend,
      () => {
        throw own
      },
      { key: 'k' }
    ).catch((e) => e),
    own
  )
  assert.equal(backend.leases.size, 0)
})

test('a release that fails goes to onReleaseError; result and error of the function stay', async () => {
  const failure = new Error('cannot let go')
  const backend = createMemoryBackend({
    before: async (operation) => {
      if (operation === 'release') throw failure
    }
  })
  const reported = []
  const onReleaseError = (...args) => {
    reported.push(args)
    throw new Error('changes nothing')
  }
  let lockId
  assert.equal(await lock(backend, (handle) => ((lockId = handle.lockId), 'result'), { key: 'k', onReleaseError }), 'result')
  assert.equal(reported.length, 1)
  assert.equal(reported[0][0], failure)
  assert.deepEqual(reported[0][1], { lockId, key: 'k', source: 'disposal' })

  const own = new Error('mine')
  const other = lock(
    backend,
    () => {
      throw own
    },
    { key: 'other', onReleaseError }
  )
  assert.equal(await other.catch((e) => e), own)
  assert.equal(reported.length, 2)
})

test('a backend through withTelemetry, with an event for every operation', async () => {
  const events = []
  const backend = createMemoryBackend()
  const observed = withTelemetry(backend, { onEvent: (event) => events.push(event) })
  await backend.acquire({ key: 'k', ttlMs: 40 })
  await lock(observed, () => {}, { key: 'k', acquisition: { ...quick, maxRetries: 1000 } })
  const kinds = events.map((event) => `${event.type} ${event.result} ${event.reason ?? ''}`.trim())
  assert.equal(kinds[0], 'acquire fail locked')
  assert.deepEqual(kinds.slice(-2), ['acquire ok', 'release ok'])
})

test('a function that releases by itself: one release, one event', async () => {
  const events = []
  const observed = withTelemetry(createMemoryBackend(), { onEvent: (event) => events.push(`${event.type} ${event.result}`) })
  await lock(observed, async (handle) => assert.deepEqual(await handle.release(), { ok: true }), { key: 'k' })
  assert.deepEqual(events, ['acquire ok', 'release ok'])
})

test('autoExtend needs a native backend, and says so', async () => {
  const backend = createMemoryBackend()
  await assert.rejects(
    lock(backend, () => {}, { key: 'k', autoExtend: true }),
    { code: 'InvalidArgument' }
  )
  assert.equal(await lock(backend, () => 1, { key: 'k', autoExtend: false }), 1)
})

const bad = [
  ['no backend', () => lock({}, () => {}, { key: 'k' })],
  ['null', () => lock(null, () => {}, { key: 'k' })],
  ['no function', () => lock(createMemoryBackend(), 'fn', { key: 'k' })],
  ['no config', () => lock(createMemoryBackend(), () => {})],
  ['an empty key', () => lock(createMemoryBackend(), () => {}, { key: '' })],
  ['a key that is inherited', () => lock(createMemoryBackend(), () => {}, Object.create({ key: 'k' }))],
  ['a fractional ttlMs', () => lock(createMemoryBackend(), () => {}, { key: 'k', ttlMs: 1.5 })],
  ['ttlMs null', () => lock(createMemoryBackend(), () => {}, { key: 'k', ttlMs: null })],
  ['a bad acquisition option', () => lock(createMemoryBackend(), () => {}, { key: 'k', acquisition: { backoff: 'linear' } })],
  ['acquisition that is no object', () => lock(createMemoryBackend(), () => {}, { key: 'k', acquisition: 5 })],
  ['a signal that is none', () => lock(createMemoryBackend(), () => {}, { key: 'k', signal: {} })],
  ['onReleaseError that is no function', () => lock(createMemoryBackend(), () => {}, { key: 'k', onReleaseError: 1 })],
  ["createAutoLock's function", () => createAutoLock(createMemoryBackend())(null, { key: 'k' })]
]
for (const [what, call] of bad) {
  test(`InvalidArgument: ${what}`, () => assert.rejects(call(), { name: 'LockError', code: 'InvalidArgument' }))
}

test('unknown fields are ignored, since people spread shared objects', async () => {
  const acquisition = { retries: 3, ...quick }
  assert.equal(await lock(createMemoryBackend(), () => 1, { key: 'k', other: true, acquisition }), 1)
})

test('createAutoLock calls the function without an argument', async () => {
  const auto = createAutoLock(createMemoryBackend())
  assert.equal(await auto((...args) => args.length, { key: 'k' }), 0)
})

test('nothing is left behind: no listeners on signals, no adapters', async () => {
  const [one, two] = [new AbortController(), new AbortController()]
  const backend = createMemoryBackend()
  const config = { key: 'k', signal: one.signal, acquisition: { signal: two.signal, maxRetries: 0 } }
  await lock(backend, () => {}, config)
  await lock(backend, () => {}, { key: 'k', signal: one.signal })
  await backend.acquire({ key: 'k', ttlMs: 60000 })
  await assert.rejects(
    lock(backend, () => {}, config),
    { code: 'AcquisitionTimeout' }
  )
  await assert.rejects(
    lock(backend, () => {}, { ...config, key: '' }),
    { code: 'InvalidArgument' }
  )
  for (const { signal } of [one, two]) {
    assert.equal(getEventListeners(signal, 'abort').length, 0)
    assert.equal(signal.onabort, null)
  }
  const { adapters } = createRequire(import.meta.url)('../../dist/environment.js')
  assert.equal(adapters.size, 0)
})

test('nothing here warned', async () => {
  await sleep(10)
  assert.deepEqual(warnings, [])
})
