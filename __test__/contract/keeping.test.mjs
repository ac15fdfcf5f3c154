// Section 7: leases that are kept, those that are given up, and how a holder hears of it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { lock } from 'syncguard'
import { isGrant, isLockError } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { onSteadyMachine } from '../support/lag.mjs'
import { block, settingUp, sleep, timed, until } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'

eachBackend((fixture) => {
  /** Renewals come in time as long as neither the machine nor the store stands still for longer than that. */
  const steadily = (bearsMs, work) => onSteadyMachine({ bearsMs, probe: () => fixture.probe() }, work)

  test('autoExtend keeps a lease past its TTL, in acquire() and in lock(), until it is released', async () => {
    const backend = fixture.open()
    const key = uniqueKey()
    const held = isGrant(await backend.acquire({ key, ttlMs: 400, autoExtend: true }))
    await sleep(1400)
    assert.ok(held.isValid() && !held.signal.aborted)
    assert.equal(await fixture.observer.isLocked({ key }), true)
    assert.deepEqual(await held.release(), { ok: true })
    assert.equal(await backend.isLocked({ key }), false)
    await lock(
      backend,
      async ({ isValid, signal }) => {
        await sleep(1400)
        assert.ok(isValid() && !signal.aborted)
      },
      { key, ttlMs: 400, autoExtend: { intervalMs: 100 }, onLeaseLost: (error) => assert.fail(error) }
    )
    await sleep(600) // Nothing extends it again.
    assert.equal(await backend.isLocked({ key }), false)
  })

  test('a lease without autoExtend is not kept', async () => {
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 150, autoExtend: false })
    await sleep(200)
    assert.equal(held.isValid(), false)
  })

  test('maxHoldMs bounds it all', async () => {
    const losses = []
    const {
      ms,
      lagMs,
      value: held
    } = await steadily(100, async () => {
      const held = await fixture.open().acquire({
        ...{ key: uniqueKey(), ttlMs: 300, autoExtend: { maxHoldMs: 800 } },
        onLeaseLost: (error) => losses.push(error)
      })
      const given = await timed(async () => {
        await Promise.race([new Promise((resolve) => held.signal.addEventListener('abort', resolve, { once: true })), sleep(3000)])
        return held
      })
      assert.ok(given.ms > 650, `given up after ${given.ms} ms`)
      return given
    })
    // Never tried again: whatever the machine does, nothing is held for longer.
    assert.ok(ms < 1200 + lagMs, `given up after ${ms} ms, ${lagMs} of them the machine's`)
    isLockError(held.signal.reason, 'LeaseLost')
    await until(() => losses.length >= 1, { what: 'onLeaseLost' })
  })

  /** A worker thread that holds `key`; it starts with `held`, does what `body` says, and posts messages. */
  function startThread(body, { key, ttlMs, autoExtend }) {
    const source = `
      import { parentPort, workerData } from 'node:worker_threads'
      const { ${fixture.create.name}: create } = await import('syncguard/${fixture.name}')
      const { target, options, acquire } = workerData
      const backend = create(target, options)
      const held = await backend.acquire(acquire)
      parentPort.postMessage(held.ok)
      ${body}`
    const workerData = { target: fixture.target, options: fixture.options, acquire: { key, ttlMs, autoExtend } }
    const worker = new Worker(source, { eval: true, execArgv: ['--input-type=module'], workerData })
    const messages = []
    worker.on('message', (message) => messages.push(message))
    let failure
    worker.on('error', (error) => (failure = error))
    return {
      worker,
      hear: async () => {
        await until(() => messages.length > 0 || failure, { timeoutMs: 20_000, what: 'a message of the thread' })
        if (failure) throw failure
        return messages.shift()
      }
    }
  }

  /** Blocks the thread's event loop, then tells what the handle says at once, and a turn later. */
  const blockThread = (ms) => `
    const aborted = []
    held.signal.addEventListener('abort', () => aborted.push(held.signal.reason.code))
    await new Promise((resolve) => setTimeout(resolve, 20))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${ms})
    const isValid = held.isValid()
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    parentPort.postMessage({ isValid, aborted, released: await held.release() })
    await backend.close()`

  const isKept = async (key, forMs) => {
    for (const end = performance.now() + forMs; performance.now() < end; await sleep(50)) {
      assert.equal(await fixture.observer.isLocked({ key }), true)
    }
  }
  const isGivenUp = (key) => until(async () => !(await fixture.observer.isLocked({ key })), { timeoutMs: 3800, what: 'the lease to be given up' })

  // At once, since each takes some seconds in which it does nothing.
  test('a blocked event loop', { concurrency: true }, async (t) => {
    const kept = { ttlMs: 800, autoExtend: true }
    const stalled = { ttlMs: 500, autoExtend: { stallMs: 600 } }
    await Promise.all([
      t.test('of a process, for five TTLs: it keeps its lease', async () => {
        const key = uniqueKey()
        const program = await fixture.program()
        program.say({ do: 'hold', key, ...kept })
        await program.hear('held')
        program.say({ do: 'block', ms: 4000 })
        await isKept(key, 3900)
        const { isValid, later } = await program.hear('unblocked')
        assert.deepEqual([isValid, later.isValid, later.aborted], [true, true, false])
        program.say({ do: 'release' })
        assert.equal((await program.hear('released')).ok, true)
        await program.kill()
      }),

      t.test('of a worker thread, for five TTLs: it keeps its lease', async () => {
        const key = uniqueKey()
        const { hear } = startThread(blockThread(4000), { key, ...kept })
        assert.equal(await hear(), true)
        await isKept(key, 3900)
        assert.deepEqual(await hear(), { isValid: true, aborted: [], released: { ok: true } })
      }),

      t.test('of a process, for longer than stallMs: it gives the lease up', async () => {
        const key = uniqueKey()
        const program = await fixture.program()
        program.say({ do: 'hold', key, ...stalled })
        await program.hear('held')
        program.say({ do: 'block', ms: 4000 })
        await isGivenUp(key)
        const { isValid, later } = await program.hear('unblocked')
        assert.deepEqual([isValid, later.isValid, later.aborted], [false, false, true])
        assert.equal((await program.hear('lost')).code, 'LeaseLost')
        await program.kill()
      }),

      t.test('of a worker thread, for longer than stallMs: it gives the lease up', async () => {
        const key = uniqueKey()
        const { hear } = startThread(blockThread(4000), { key, ...stalled })
        assert.equal(await hear(), true)
        await isGivenUp(key)
        assert.deepEqual(await hear(), { isValid: false, aborted: ['LeaseLost'], released: { ok: false } })
      })
    ])
  })

  test('an idle event loop is no stalled one', () =>
    steadily(100, async () => {
      const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 300, autoExtend: { stallMs: 300 } })
      await sleep(2500)
      assert.ok(held.isValid() && !held.signal.aborted)
      await held.release()
    }))

  test('when a worker thread ends, its renewals stop and its leases are released', async () => {
    const key = uniqueKey()
    const { hear, worker } = startThread('setInterval(() => {}, 1000)', { key, ttlMs: 30_000, autoExtend: true })
    assert.equal(await hear(), true)
    await worker.terminate()
    await until(async () => !(await fixture.observer.isLocked({ key })), { what: 'the release of the ended thread' })
  })

  test('SIGSTOP past the TTL: isValid() is false on the first instruction after, the signal fires within a turn', async () => {
    for (const autoExtend of [undefined, true]) {
      const key = uniqueKey()
      const program = await fixture.program()
      program.say({ do: 'hold', key, ttlMs: 600, autoExtend })
      await program.hear('held')
      program.say({ do: 'watch', gapMs: 700 })
      await sleep(60)
      program.pause()
      await sleep(1200 + fixture.toleranceMs)
      const next = await fixture.open().acquire({ key, ttlMs: 30_000 })
      program.continue()
      const { isValid, aborted, gapMs } = await program.hear('paused')
      assert.ok(gapMs > 1000)
      assert.deepEqual({ isValid, aborted }, { isValid: false, aborted: true }, `autoExtend: ${autoExtend}`)
      assert.equal(next.ok, true, 'somebody else has it by then')
      await sleep(100)
      program.say({ do: 'extend', ttlMs: 30_000 })
      assert.equal((await program.hear('extended')).ok, false)
      program.say({ do: 'release' })
      assert.equal((await program.hear('released')).ok, false)
      assert.ok(next.isValid())
      assert.equal(await fixture.observer.isLocked({ key }), true, 'the successor keeps it')
      await program.kill()
    }
  })

  test('SIGSTOP past the TTL: a process that does nothing hears of it by itself', async () => {
    for (const autoExtend of [undefined, true]) {
      const program = await fixture.program()
      program.say({ do: 'hold', key: uniqueKey(), ttlMs: 600, autoExtend })
      await program.hear('held')
      program.pause()
      await sleep(1200)
      assert.deepEqual(program.lines, [])
      program.continue()
      assert.equal((await program.hear('aborted', 3000)).code, 'LeaseLost')
      assert.equal((await program.hear('lost', 3000)).code, 'LeaseLost')
      program.say({ do: 'state' })
      const { isValid, aborted, remainingMs } = await program.hear('state')
      assert.deepEqual({ isValid, aborted, remainingMs }, { isValid: false, aborted: true, remainingMs: 0 })
      assert.deepEqual(program.lines, [], 'once')
      await program.kill()
    }
  })

  test('lock(): a kept lease that is lost while fn runs is told once, and the result of fn stays', async () => {
    const key = uniqueKey()
    const losses = []
    const result = await lock(
      fixture.open(),
      async ({ lockId, signal, isValid, remainingMs }) => {
        assert.deepEqual(await fixture.observer.release({ lockId }), { ok: true })
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
        isLockError(signal.reason, 'LeaseLost')
        assert.deepEqual([isValid(), remainingMs()], [false, 0])
        await sleep(50)
        assert.equal(losses.length, 1, 'while fn still runs')
        return 'result'
      },
      { key, ttlMs: 900, autoExtend: true, onLeaseLost: (...args) => losses.push(args) }
    )
    assert.equal(result, 'result')
    assert.equal(losses.length, 1)
    isLockError(losses[0][0], 'LeaseLost')
    assert.equal(losses[0][1].key, key)
  })

  test('lock(): fn that blocks the event loop past the TTL: told once, by default as a warning, and the result of fn stays', async () => {
    const losses = []
    const blocking = () => (block(400), 'result')
    const config = () => ({ key: uniqueKey('secret'), ttlMs: 200 })
    assert.equal(await lock(fixture.open(), blocking, { ...config(), onLeaseLost: (error) => losses.push(error.code) }), 'result')
    const warnings = []
    const listen = (warning) => warnings.push(warning)
    process.on('warning', listen)
    try {
      assert.equal(await lock(fixture.open(), blocking, config()), 'result')
      await sleep(50)
    } finally {
      process.off('warning', listen)
    }
    assert.deepEqual(losses, ['LeaseLost'])
    assert.deepEqual(
      warnings.map(({ name, code }) => [name, code]),
      [['LeaseLost', 'SYNCGUARD_LEASE_LOST']]
    )
    assert.ok(!warnings[0].message.includes('secret'))
  })
})

eachBackend(
  (fixture) => {
    test('a kept lease that somebody removed is lost: signal, isValid, onLeaseLost, before it could expire', async () => {
      const key = uniqueKey()
      const losses = []
      const held = await fixture.open().acquire({ key, ttlMs: 900, autoExtend: true, onLeaseLost: (...args) => losses.push(args) })
      const { signal } = held
      const { ms, lagMs } = await timed(async () => {
        await fixture.remove(key)
        await until(() => signal.aborted, { what: 'the signal' })
      })
      assert.ok(ms < 800 + lagMs, 'the next renewal finds out, not the deadline')
      assert.equal(held.isValid(), false)
      await until(() => losses.length === 1)
      assert.deepEqual({ ...losses[0][1] }, { key, lockId: held.lockId, fence: held.fence })
      assert.deepEqual(await held.extend(1000), { ok: false })
      await sleep(500)
      assert.equal(await fixture.observer.isLocked({ key }), false, 'it never re-acquires')
    })

    test('a store that hangs: the signal fires before the lease can expire there', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 200 })
      let key
      const held = await settingUp(() => backend.acquire({ key: (key = uniqueKey()), ttlMs: 1000, autoExtend: true }))
      await sleep(100)
      proxy.freeze()
      await new Promise((resolve) => held.signal.addEventListener('abort', resolve, { once: true }))
      assert.equal(await fixture.observer.isLocked({ key }), true, 'the store still has it when the holder hears of the loss')
      assert.equal(held.isValid(), false)
    })

    test('an unknown outcome is retried: a store that comes back in time loses nothing', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ operationTimeoutMs: 200 })
      const held = await settingUp(() => backend.acquire({ key: uniqueKey(), ttlMs: 2500, autoExtend: true }))
      proxy.freeze()
      await sleep(1300)
      proxy.thaw()
      await sleep(2500)
      assert.ok(held.isValid() && !held.signal.aborted)
      assert.deepEqual(await held.release(), { ok: true })
    })

    test('release stops the renewal', async () => {
      const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 300, autoExtend: true })
      await sleep(150)
      await held.release()
      const requests = await fixture.requestsDuring(() => sleep(500))
      assert.deepEqual(requests, [])
    })

    test('a kept lease is extended at a third of its TTL, not more often', async () => {
      const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 900, autoExtend: true })
      const { ms, lagMs, value: requests } = await timed(() => fixture.requestsDuring(() => sleep(1500)))
      const expected = ms / 300
      assert.ok(requests.length >= expected - 2 - lagMs / 300 && requests.length <= expected + 1, `${requests.length} extends in ${ms} ms`)
      await held.release()
    })

    test('a round trip longer than intervalMs loses nothing', async () => {
      const { proxy, open } = await fixture.proxied()
      proxy.onConnection(({ toServer, toClient }) => {
        toServer.delay(30)
        toClient.delay(30)
      })
      const losses = []
      const held = await open().acquire({
        ...{ key: uniqueKey(), ttlMs: 2000, autoExtend: { intervalMs: 50 } },
        onLeaseLost: (error) => losses.push(error)
      })
      isGrant(held)
      await sleep(4500)
      assert.ok(held.isValid() && !held.signal.aborted)
      assert.deepEqual(losses, [])
      await held.release()
    })
  },
  { where: overNetwork }
)
