// Section 7: leases that are kept, those that are given up, and how a holder hears of it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { lock } from 'syncguard'
import { isGrant, isLockError } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { sleep, until } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'

eachBackend((fixture) => {
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
    const held = await fixture.open().acquire({
      ...{ key: uniqueKey(), ttlMs: 300, autoExtend: { maxHoldMs: 800 } },
      onLeaseLost: (error) => losses.push(error)
    })
    const start = performance.now()
    await new Promise((resolve) => held.signal.addEventListener('abort', resolve, { once: true }))
    const ms = performance.now() - start
    assert.ok(ms > 450 && ms < 1200, `given up after ${ms} ms`)
    isLockError(held.signal.reason, 'LeaseLost')
    await until(() => losses.length === 1, { what: 'onLeaseLost' })
  })

  test('a process whose event loop is blocked for five TTLs keeps its lease', async () => {
    const key = uniqueKey()
    const backend = fixture.open()
    const program = await fixture.program()
    program.say({ do: 'hold', key, ttlMs: 800, autoExtend: true })
    await program.hear('held')
    program.say({ do: 'block', ms: 4000 })
    while (!program.lines.some(({ is }) => is === 'unblocked')) {
      assert.equal(await backend.isLocked({ key }), true)
      await sleep(100)
    }
    const { isValid, later } = await program.hear('unblocked')
    assert.deepEqual([isValid, later.isValid, later.aborted], [true, true, false])
    program.say({ do: 'release' })
    assert.equal((await program.hear('released')).ok, true)
    await program.kill()
  })

  test('one that is blocked past stallMs gives it up', async () => {
    const key = uniqueKey()
    const backend = fixture.open()
    const program = await fixture.program()
    program.say({ do: 'hold', key, ttlMs: 500, autoExtend: { stallMs: 600 } })
    await program.hear('held')
    program.say({ do: 'block', ms: 4000 })
    await until(async () => !(await backend.isLocked({ key })), { timeoutMs: 3800, what: 'the lease to be given up' })
    const { isValid, later } = await program.hear('unblocked')
    assert.deepEqual([isValid, later.isValid, later.aborted], [false, false, true])
    assert.equal((await program.hear('lost')).code, 'LeaseLost')
    await program.kill()
  })

  test('an idle event loop is no stalled one', async () => {
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 300, autoExtend: { stallMs: 300 } })
    await sleep(1500)
    assert.ok(held.isValid() && !held.signal.aborted)
    await held.release()
  })

  /** A worker that takes a lease and then blocks; afterwards it releases when it is told to. Answers what it says. */
  async function blockedWorker(workerData) {
    const worker = new Worker(
      `import { once } from 'node:events'
       import { workerData, parentPort } from 'node:worker_threads'
       const { ${fixture.create.name}: create } = await import('syncguard/${fixture.name}')
       const { target, options, key, ttlMs, autoExtend, blockMs } = workerData
       const backend = create(target, options)
       const lost = []
       const held = await backend.acquire({ key, ttlMs, autoExtend, onLeaseLost: ({ code }) => lost.push(code) })
       parentPort.postMessage({ ok: held.ok })
       await new Promise((resolve) => setTimeout(resolve, 20))
       const end = performance.now() + blockMs
       while (performance.now() < end);
       const isValid = held.isValid()
       await new Promise(setImmediate)
       parentPort.postMessage({ isValid, aborted: held.signal.aborted, lost })
       await once(parentPort, 'message')
       parentPort.postMessage({ released: await held.release() })
       await backend.close()`,
      { eval: true, execArgv: ['--input-type=module'], workerData: { ...workerData, target: fixture.target, options: fixture.options } }
    )
    const messages = []
    worker.on('message', (message) => messages.push(message))
    const exited = new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject))
    await until(() => messages.length === 1, { timeoutMs: 10_000, what: 'the lease of the worker' })
    return { worker, messages, exited }
  }

  test('a worker that blocks its event loop for five TTLs keeps its lease', async () => {
    const key = uniqueKey()
    const backend = fixture.open()
    const { worker, messages, exited } = await blockedWorker({ key, ttlMs: 800, autoExtend: true, blockMs: 4000 })
    while (messages.length < 2) {
      assert.equal(await backend.isLocked({ key }), true)
      await sleep(100)
    }
    worker.postMessage('release')
    await exited
    assert.deepEqual(messages, [{ ok: true }, { isValid: true, aborted: false, lost: [] }, { released: { ok: true } }])
  })

  test('a worker that is blocked past stallMs gives its lease up', async () => {
    const key = uniqueKey()
    const backend = fixture.open()
    const { worker, messages, exited } = await blockedWorker({ key, ttlMs: 500, autoExtend: { stallMs: 600 }, blockMs: 4000 })
    await until(async () => !(await backend.isLocked({ key })), { timeoutMs: 3800, what: 'the lease to be given up' })
    assert.equal(messages.length, 1, 'it is still blocked')
    await until(() => messages.length === 2)
    worker.postMessage('release')
    await exited
    assert.deepEqual(messages, [{ ok: true }, { isValid: false, aborted: true, lost: ['LeaseLost'] }, { released: { ok: false } }])
  })

  test('when a worker thread ends, its renewals stop and its leases are released', async () => {
    const key = uniqueKey()
    const backend = fixture.open()
    const worker = new Worker(
      `import { workerData, parentPort } from 'node:worker_threads'
       const { ${fixture.create.name}: create } = await import('syncguard/${fixture.name}')
       const held = await create(workerData.target, workerData.options).acquire({ key: workerData.key, ttlMs: 30000, autoExtend: true })
       parentPort.postMessage(held.ok)
       setInterval(() => {}, 1000)`,
      { eval: true, execArgv: ['--input-type=module'], workerData: { key, target: fixture.target, options: fixture.options } }
    )
    assert.equal(await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)), true)
    await worker.terminate()
    await until(async () => !(await backend.isLocked({ key })), { timeoutMs: 5000, what: 'the release of the ended thread' })
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
})

eachBackend(
  (fixture) => {
    test('a kept lease that somebody removed is lost: signal, isValid, onLeaseLost, before it could expire', async () => {
      const key = uniqueKey()
      const losses = []
      const held = await fixture.open().acquire({ key, ttlMs: 900, autoExtend: true, onLeaseLost: (...args) => losses.push(args) })
      const { signal } = held
      const start = performance.now()
      await fixture.remove(key)
      await until(() => signal.aborted, { what: 'the signal' })
      assert.ok(performance.now() - start < 800, 'the next renewal finds out, not the deadline')
      assert.equal(held.isValid(), false)
      await until(() => losses.length === 1)
      assert.deepEqual({ ...losses[0][1] }, { key, lockId: held.lockId, fence: held.fence })
      assert.deepEqual(await held.extend(1000), { ok: false })
      await sleep(500)
      assert.equal(await fixture.observer.isLocked({ key }), false, 'it never re-acquires')
    })

    test('a store that hangs: the signal fires before the lease can expire there', async () => {
      const { proxy, open } = await fixture.proxied()
      const key = uniqueKey()
      const held = await open({ operationTimeoutMs: 200 }).acquire({ key, ttlMs: 1000, autoExtend: true })
      await sleep(100)
      proxy.freeze()
      await new Promise((resolve) => held.signal.addEventListener('abort', resolve, { once: true }))
      assert.equal(await fixture.observer.isLocked({ key }), true, 'the store still has it when the holder hears of the loss')
      assert.equal(held.isValid(), false)
    })

    test('an unknown outcome is retried: a store that comes back in time loses nothing', async () => {
      const { proxy, open } = await fixture.proxied()
      const held = await open({ operationTimeoutMs: 200 }).acquire({ key: uniqueKey(), ttlMs: 2500, autoExtend: true })
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
      const requests = await fixture.requestsDuring(() => sleep(1500))
      assert.ok(requests.length >= 3 && requests.length <= 6, `${requests.length} extends in 1.5 s`)
      await held.release()
    })
  },
  { where: overNetwork }
)
