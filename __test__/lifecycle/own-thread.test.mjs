// Calls that end on the thread of their caller, over a connection that its event loop watches: which way a call took,
// and what a busy thread or its end does to it.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { lock } from 'syncguard'
import { createRedisBackend } from 'syncguard/redis'
import { here } from '../../dist/environment.js'
import { uniqueKey } from '../support/keys.mjs'
import { skipWithout } from '../support/needs.mjs'
import { startSource } from '../support/processes.mjs'
import { RedisServer } from '../support/servers.mjs'
import { block, sleep, until } from '../support/wait.mjs'

/** How many calls ended here, and how many with the engine, while `work` ran. */
async function during(work) {
  const from = here.ended()
  await work()
  const to = here.ended()
  return { here: to.here - from.here, elsewhere: to.elsewhere - from.elsewhere }
}

const cycle = async (backend, key = uniqueKey('own')) => {
  const held = await backend.acquire({ key, ttlMs: 20_000 })
  assert.ok(held.ok)
  await held.extend(20_000)
  await held.release()
}

/** Until the event loop has a connection of its own. */
const warmUp = (backend) => until(async () => (await during(() => cycle(backend))).elsewhere === 0, { what: 'calls end here' })

describe('on Redis', { skip: skipWithout('redis') }, () => {
  let server
  let backend
  before(async () => {
    server = await RedisServer.start()
    backend = createRedisBackend(server.url)
    await warmUp(backend)
  })
  after(async () => {
    await backend.close()
    await server.stop()
  })

  test('whatever waits for nothing but the store ends here, one at a time and many at once', async () => {
    const alone = await during(async () => {
      for (let i = 0; i < 50; i++) await cycle(backend)
    })
    assert.deepEqual(alone, { here: 150, elsewhere: 0 })
    const lanes = Array.from({ length: 64 }, (_, lane) => async () => {
      for (let i = 0; i < 20; i++) await cycle(backend, `lane ${lane}`)
    })
    assert.deepEqual(await during(() => Promise.all(lanes.map((run) => run()))), { here: 64 * 20 * 3, elsewhere: 0 })
    assert.deepEqual(await during(() => lock(backend, () => {}, { key: uniqueKey('own') })), { here: 2, elsewhere: 0 })
  })

  test('whatever is kept, or waits for somebody else, goes on with the engine', async () => {
    const kept = await during(async () => {
      const held = await backend.acquire({ key: uniqueKey('own'), ttlMs: 20_000, autoExtend: true })
      await held.release()
    })
    assert.deepEqual(kept, { here: 1, elsewhere: 1 })
    const key = uniqueKey('own')
    const order = []
    const waits = await during(() => Promise.all([1, 2, 3].map((n) => lock(backend, () => order.push(n), { key }))))
    assert.deepEqual(order, [1, 2, 3])
    assert.ok(waits.elsewhere >= 2, JSON.stringify(waits))
  })

  test('a refusal and an abort are as elsewhere', async () => {
    const key = uniqueKey('own')
    const held = await backend.acquire({ key, ttlMs: 20_000 })
    assert.equal((await backend.acquire({ key, ttlMs: 1000 })).ok, false)
    const aborting = new AbortController()
    const other = uniqueKey('own')
    const call = backend.acquire({ key: other, ttlMs: 20_000, signal: aborting.signal })
    aborting.abort()
    await assert.rejects(call, { code: 'Aborted' })
    await until(async () => !(await backend.isLocked({ key: other })), { what: 'what was aborted is undone' })
    await held.release()
  })

  test('what a release asks for has left when the call returns', async () => {
    const key = uniqueKey('own')
    const held = await backend.acquire({ key, ttlMs: 20_000 })
    // Who looks is another thread: this one does nothing else meanwhile.
    const shared = new Float64Array(new SharedArrayBuffer(8))
    const source = `
      const { workerData, parentPort } = require('node:worker_threads')
      const { createRedisBackend } = require('syncguard/redis')
      const backend = createRedisBackend(workerData.url)
      ;(async () => {
        await backend.isLocked({ key: workerData.key })
        parentPort.postMessage('looks')
        while (await backend.isLocked({ key: workerData.key })) {}
        workerData.shared[0] = Date.now()
        await backend.close()
      })()`
    const looks = new Worker(source, { eval: true, workerData: { url: server.url, key, shared } })
    const exited = new Promise((resolve) => looks.once('exit', resolve))
    await new Promise((resolve) => looks.once('message', resolve))
    const began = Date.now()
    const release = held.release()
    block(1000)
    const gone = shared[0] - began
    await release
    await exited
    assert.ok(shared[0] > 0 && gone < 900, `the key was free after ${gone} ms, of 1000 in which the thread was busy`)
  })

  test('a reply is in time however long the thread was busy', async () => {
    const impatient = createRedisBackend(server.url, { operationTimeoutMs: 200 })
    await warmUp(impatient)
    const ended = await during(async () => {
      const call = impatient.acquire({ key: uniqueKey('own'), ttlMs: 20_000 })
      block(900)
      const held = await call
      assert.ok(held.ok)
      await held.release()
    })
    assert.deepEqual(ended, { here: 2, elsewhere: 0 })
    await impatient.close()
  })

  test('an extend whose reply lies there unread loses no lease', async () => {
    const held = await backend.acquire({ key: uniqueKey('own'), ttlMs: 600 })
    await sleep(300)
    const extend = held.extend(20_000)
    // Past the deadline that the lease had before.
    block(700)
    assert.equal((await extend).ok, true)
    await sleep(50)
    assert.equal(held.signal.aborted, false)
    await held.release()
  })

  test('what a worker asked for is undone when it ends before the answer', async () => {
    for (let round = 0; round < 10; round++) {
      const key = uniqueKey('own')
      const source = `
        const { workerData } = require('node:worker_threads')
        const { createRedisBackend } = require('syncguard/redis')
        const backend = createRedisBackend(workerData.url)
        ;(async () => {
          for (let i = 0; i < 20; i++) await (await backend.acquire({ key: workerData.key + 'warm', ttlMs: 20000 })).release()
          for (let i = 0; i < 30; i++) backend.acquire({ key: workerData.key + i, ttlMs: 20000 })
          if (workerData.round % 2 === 0) await null
          process.exit(0)
        })()`
      const worker = new Worker(source, { eval: true, workerData: { url: server.url, key, round } })
      const [code] = await new Promise((resolve) => worker.once('exit', (...result) => resolve(result)))
      assert.equal(code, 0)
      for (let i = 0; i < 30; i++) {
        await until(async () => !(await backend.isLocked({ key: key + i })), { what: `the lease of call ${i} is given back` })
      }
    }
  })

  test('a process ends in the middle of calls as well', async () => {
    const program = startSource(`
      import { createRedisBackend } from 'syncguard/redis'
      const backend = createRedisBackend(${JSON.stringify(server.url)})
      for (let i = 0; i < 20; i++) await (await backend.acquire({ key: 'exit', ttlMs: 1000 })).release()
      for (let i = 0; i < 100; i++) backend.acquire({ key: 'exit' + i, ttlMs: 100 })
      process.exit(0)`)
    const { code, stderr } = await program.exited
    assert.deepEqual([code, stderr], [0, ''])
  })

  test('everything can be left to the engine', async () => {
    const program = startSource(
      `
      import { createRedisBackend } from 'syncguard/redis'
      import { here } from './dist/environment.js'
      const backend = createRedisBackend(${JSON.stringify(server.url)})
      for (let i = 0; i < 50; i++) await (await backend.acquire({ key: 'engine', ttlMs: 1000 })).release()
      await backend.close()
      console.log(JSON.stringify(here.ended()))`,
      { env: { SYNCGUARD_EVENT_LOOP: 'off' } }
    )
    const { code, stderr } = await program.exited
    assert.deepEqual([code, stderr, program.lines], [0, '', [{ here: 0, elsewhere: 101 }]])
  })
})
