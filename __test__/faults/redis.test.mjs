// The faults of the reliability record on Redis, each for a few seconds.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { FaultProxy } from '../support/proxy.mjs'
import { skipWithout } from '../support/needs.mjs'
import { RedisServer } from '../support/servers.mjs'
import { repeat, sleep } from '../support/wait.mjs'
import { contend } from './contention.mjs'

const options = { operationTimeoutMs: 500 }

describe('Redis under faults', { skip: skipWithout('redis') }, () => {
  async function start(t, settings) {
    const server = await RedisServer.start(settings)
    t.after(() => server.stop())
    return { server, store: { name: 'redis', target: server.url, options } }
  }

  async function startProxied(t) {
    const { server } = await start(t)
    const proxy = await FaultProxy.start(server)
    t.after(() => proxy.stop())
    return { server, proxy, store: { name: 'redis', target: `redis://127.0.0.1:${proxy.port}`, options } }
  }

  test('no fault: nothing fails', async (t) => {
    const { store } = await start(t)
    await contend({ store, calm: true, inject: () => sleep(1000) })
  })

  test('server killed and restarted, its leases in the append-only file', async (t) => {
    const { server, store } = await start(t, { appendOnly: true })
    await contend({
      store,
      inject: () =>
        repeat(3, 500, async () => {
          await server.crash()
          await sleep(150)
          await server.restart()
        })
    })
  })

  test('every connection killed, the subscriber included, again and again', async (t) => {
    const { server, store } = await start(t)
    await contend({
      store,
      inject: () =>
        repeat(40, 40, async () => {
          await server.raw.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
          await server.raw.client('KILL', 'TYPE', 'pubsub', 'SKIPME', 'yes')
        })
    })
  })

  test('server frozen for longer than an operation may take', async (t) => {
    const { server, store } = await start(t)
    await contend({
      store,
      inject: () =>
        repeat(2, 500, async () => {
          server.freeze()
          await sleep(900)
          server.thaw()
        })
    })
  })

  test('half-open connections', async (t) => {
    const { proxy, store } = await startProxied(t)
    await contend({
      store,
      inject: () =>
        repeat(2, 500, async () => {
          const frozen = [...proxy.connections]
          for (const connection of frozen) connection.freeze()
          await sleep(1200)
          for (const connection of frozen) connection.reset()
        })
    })
  })

  test('replies swallowed: acquire, extend and release', async (t) => {
    const { proxy, store } = await startProxied(t)
    let swallowed = 0
    await contend({
      store,
      inject: ({ key }) =>
        repeat(25, 60, async () => {
          await Promise.race([proxy.swallowReplyTo(key).then(() => swallowed++), sleep(500)])
        })
    })
    assert.ok(swallowed > 15, `only ${swallowed} replies were swallowed`)
  })

  test('connections cut in the middle of a reply', async (t) => {
    const { proxy, store } = await startProxied(t)
    await contend({
      store,
      inject: () =>
        repeat(25, 50, async (i) => {
          for (const connection of proxy.connections) connection.toClient.cutAfter(1 + ((i * 7) % 40))
        })
    })
  })

  test('FLUSHALL: leases are lost, fences still rise', async (t) => {
    const { server, store } = await start(t)
    const { turns } = await contend({ store, losesState: true, inject: () => repeat(20, 50, () => server.raw.flushall()) })
    assert.equal(new Set(turns.map(({ fence }) => fence)).size, turns.length)
  })

  test('restarted without persistence: fences still rise', async (t) => {
    const { server, store } = await start(t)
    await contend({
      store,
      losesState: true,
      inject: () =>
        repeat(2, 400, async () => {
          await server.crash()
          await server.restart()
        })
    })
  })

  test('SCRIPT FLUSH: nothing is noticed', async (t) => {
    const { server, store } = await start(t)
    await contend({ store, calm: true, inject: () => repeat(50, 20, () => server.raw.script('FLUSH')) })
  })

  test('CLIENT PAUSE', async (t) => {
    const { server, store } = await start(t)
    await contend({
      store,
      inject: () =>
        repeat(2, 700, async () => {
          await server.raw.client('PAUSE', '300', 'ALL')
          await sleep(300)
        })
    })
  })

  test('processes killed, holders among them', async (t) => {
    const { store } = await start(t)
    await contend({ store, timeoutMs: 10_000, inject: (contention) => repeat(6, 250, () => contention.killOne()) })
  })

  test('a herd of waiters in two processes', async (t) => {
    const { store } = await start(t)
    await contend({ store, processes: 2, waiters: 40, timeoutMs: 20_000, calm: true, inject: () => sleep(1500) })
  })
})
