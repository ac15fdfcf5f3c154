// One signal may be shared by any number of calls: it has one listener of ours, and none once they have ended.
import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { createBackend, lock } from 'syncguard'
import { createMemoryBackend } from '../support/javascript-backend.mjs'
import { startSource } from '../support/processes.mjs'

const listeners = (signal) => getEventListeners(signal, 'abort').length

/** Warnings while `work` runs. */
async function warningsOf(work) {
  const warnings = []
  const hear = (warning) => warnings.push(warning.name)
  process.on('warning', hear)
  await work()
  await new Promise((resolve) => setImmediate(resolve))
  process.removeListener('warning', hear)
  return warnings
}

test('a thousand calls with one signal: one listener, no warning, and all end with its abort', async () => {
  const backend = await createBackend('memory:')
  await backend.acquire({ key: 'held', ttlMs: 600_000 })
  const controller = new AbortController()
  const { signal } = controller
  const reason = new Error('enough')
  const warnings = await warningsOf(async () => {
    const waiting = Array.from({ length: 1000 }, (_, i) => lock(backend, () => assert.fail('held'), { key: 'held', ...(i % 2 ? { signal } : { acquisition: { signal } }) }))
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(listeners(signal), 1)
    controller.abort(reason)
    for (const { status, reason: error } of await Promise.allSettled(waiting)) {
      assert.equal(status, 'rejected')
      assert.equal(error.code, 'Aborted')
      assert.equal(error.cause, reason)
    }
  })
  assert.deepEqual(warnings, [])
  assert.equal(listeners(signal), 0)
  await backend.close()
})

test('calls that end by themselves leave no listener, whatever kind they are', async () => {
  const backend = await createBackend('memory:')
  const [first, second] = [new AbortController().signal, new AbortController().signal]
  const warnings = await warningsOf(() =>
    Promise.all(
      Array.from({ length: 300 }, async (_, i) => {
        const key = `k${i}`
        const held = await backend.acquire({ key, ttlMs: 10_000, signal: first })
        await backend.isLocked({ key, signal: first })
        await backend.lookup({ key, signal: second })
        await held.extend(10_000, second)
        await backend.extend({ lockId: held.lockId, ttlMs: 10_000, signal: first })
        await held.release(first)
        await lock(backend, () => {}, { key, signal: first, acquisition: { signal: second } })
        await lock(createMemoryBackend(), () => {}, { key, signal: first, acquisition: { signal: second } })
      })
    )
  )
  assert.deepEqual(warnings, [])
  assert.deepEqual([listeners(first), listeners(second)], [0, 0])
  await backend.close()
})

test('an abort reaches calls of both signals, and a call that ended is not told', async () => {
  const backend = await createBackend('memory:')
  await backend.acquire({ key: 'held', ttlMs: 600_000 })
  const controllers = [new AbortController(), new AbortController()]
  const [one, two] = controllers.map(({ signal }) => signal)
  const ended = await backend.acquire({ key: 'free', ttlMs: 10_000, signal: one })
  const both = lock(backend, () => {}, { key: 'held', signal: one, acquisition: { signal: two } }).catch(({ code }) => code)
  const only = lock(backend, () => 'in', { key: 'held', signal: two, acquisition: { timeoutMs: 400 } }).catch(({ code }) => code)
  controllers[0].abort()
  assert.equal(await both, 'Aborted')
  assert.equal(listeners(two), 1)
  assert.equal(await only, 'AcquisitionTimeout')
  assert.deepEqual([listeners(one), listeners(two)], [0, 0])
  assert.equal(ended.isValid(), true)
  await backend.close()
})

test('a signal that lives on holds nothing of the calls that it was given to', async () => {
  const program = startSource(
    `import { createBackend, lock } from "syncguard"
     const { signal } = new AbortController()
     const backend = await createBackend("memory:")
     let config = { key: "k", signal, acquisition: { signal: new AbortController().signal } }
     const trace = [new WeakRef(config), new WeakRef(await backend.acquire({ key: "other", ttlMs: 1000, signal }))]
     trace.push(new WeakRef(await lock(backend, (held) => held, config)))
     config = undefined
     await trace[1].deref()?.release(signal)
     for (let i = 0; i < 50 && trace.some((ref) => ref.deref()); i++) { await new Promise((resolve) => setTimeout(resolve, 20)); gc() }
     console.log(JSON.stringify({ is: "left", count: trace.filter((ref) => ref.deref()).length, aborted: signal.aborted }))`,
    { execArgv: ['--expose-gc'] }
  )
  assert.deepEqual(await program.hear('left'), { is: 'left', count: 0, aborted: false })
  await program.finish()
})
