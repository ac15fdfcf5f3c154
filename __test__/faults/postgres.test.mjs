// The faults of the reliability record on PostgreSQL, each for a few seconds.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setupSchema } from 'syncguard/postgres'
import { FaultProxy } from '../support/proxy.mjs'
import { skipWithout } from '../support/needs.mjs'
import { PostgresServer } from '../support/servers.mjs'
import { repeat, sleep } from '../support/wait.mjs'
import { contend } from './contention.mjs'

const options = { operationTimeoutMs: 800, connectTimeoutMs: 800, poolSize: 2 }

describe('PostgreSQL under faults', { skip: skipWithout('postgres') }, () => {
  const storeAt = (server, port = server.port) => ({ name: 'postgres', target: server.url.replace(`:${server.port}`, `:${port}`), options })

  // One for all: no fault outlasts its test, and making a server takes longer than most of them.
  let server, store
  before(async () => {
    server = await PostgresServer.start()
    await setupSchema(server.url)
    store = storeAt(server)
  })
  after(() => server?.stop())

  async function startProxy(t) {
    const proxy = await FaultProxy.start(server)
    t.after(() => proxy.stop())
    return { proxy, store: storeAt(server, proxy.port) }
  }

  test('no fault: nothing fails', async () => {
    await contend({ store, calm: true, timeoutMs: 8000, inject: () => sleep(1000) })
  })

  test('server killed and restarted', async (t) => {
    const crashing = await PostgresServer.start({ settings: ['fsync = on'] })
    t.after(() => crashing.stop())
    await setupSchema(crashing.url)
    await contend({
      store: storeAt(crashing),
      inject: () =>
        repeat(3, 600, async () => {
          await crashing.crash()
          await sleep(150)
          await crashing.restart()
        })
    })
  })

  test('every backend terminated, the listener included, again and again', async () => {
    await contend({
      store,
      inject: () =>
        repeat(25, 60, () => server.query('select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = $1', ['client backend']))
    })
  })

  test('server frozen for longer than an operation may take', async () => {
    await contend({
      store,
      inject: () =>
        repeat(2, 600, async () => {
          server.freeze()
          await sleep(1200)
          server.thaw()
        })
    })
  })

  test('LOCK TABLE by somebody else', async () => {
    await contend({
      store,
      inject: () =>
        repeat(2, 500, async () => {
          await server.query('begin')
          await server.query('lock table syncguard_locks in access exclusive mode')
          await sleep(1200)
          await server.query('commit')
        })
    })
  })

  test('replies swallowed: acquire, extend and release', async (t) => {
    const { proxy, store } = await startProxy(t)
    let swallowed = 0
    await contend({
      store,
      inject: ({ key }) => repeat(15, 100, () => Promise.race([proxy.swallowReplyTo(key).then(() => swallowed++), sleep(700)]))
    })
    assert.ok(swallowed > 8, `only ${swallowed} replies were swallowed`)
  })

  test('connections cut in the middle of a reply', async (t) => {
    const { proxy, store } = await startProxy(t)
    await contend({
      store,
      inject: () =>
        repeat(15, 80, async (i) => {
          for (const connection of proxy.connections) connection.toClient.cutAfter(1 + ((i * 13) % 90))
        })
    })
  })

  test('tables emptied: leases are lost, fences still rise', async () => {
    await contend({
      store,
      losesState: true,
      inject: () => repeat(10, 100, () => server.query('truncate syncguard_locks, syncguard_fence_counters'))
    })
  })

  test('processes killed, holders among them', async () => {
    await contend({ store, timeoutMs: 12_000, inject: (contention) => repeat(4, 400, () => contention.killOne()) })
  })

  test('a herd of waiters in two processes, one connection each', async () => {
    await contend({
      store: { ...store, options: { ...options, poolSize: 1 } },
      ...{ processes: 2, waiters: 40, timeoutMs: 20_000, calm: true },
      inject: () => sleep(1500)
    })
  })
})
