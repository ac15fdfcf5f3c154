// The faults of the reliability record on Firestore, each for a few seconds.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { createFirestoreBackend } from 'syncguard/firestore'
import { isGrant, isRefusal } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { skipWithout } from '../support/needs.mjs'
import { startSource } from '../support/processes.mjs'
import { FaultProxy } from '../support/proxy.mjs'
import { FirestoreEmulator } from '../support/servers.mjs'
import { sleep } from '../support/wait.mjs'
import { wrongClock } from '../support/wrong-clock.mjs'
import { contend } from './contention.mjs'

const options = { operationTimeoutMs: 1000 }
const HOUR_S = 3600

describe('Firestore under faults', { skip: skipWithout('firestore') }, () => {
  const target = (port) => ({ projectId: `faults-${process.pid}-${Date.now()}`, host: `127.0.0.1:${port}`, ssl: false })
  const storeAt = (port) => ({ name: 'firestore', target: target(port), options })
  let emulator

  before(async () => {
    emulator = await FirestoreEmulator.shared()
    // A Java that has just begun takes its time.
    const backend = createFirestoreBackend(target(emulator.port), { operationTimeoutMs: 60_000 })
    for (let i = 0; i < 20; i++) await isGrant(await backend.acquire({ key: 'warm', ttlMs: 30_000 })).release()
    await backend.close()
  })
  after(() => emulator?.stop())

  async function proxied(t) {
    const proxy = await FaultProxy.start(emulator)
    t.after(() => proxy.stop())
    return proxy
  }

  test('no fault: eight processes, one key, and no conflict reaches the user', async () => {
    await contend({ store: storeAt(emulator.port), processes: 8, waiters: 1, calm: true, timeoutMs: 10_000, inject: () => sleep(3000) })
  })

  test('connections cut again and again, the listen streams included', async (t) => {
    const proxy = await proxied(t)
    await contend({
      store: storeAt(proxy.port),
      inject: async () => {
        for (let i = 0; i < 20; i++) {
          proxy.reset()
          await sleep(100)
        }
      }
    })
  })

  test('half-open connections', async (t) => {
    const proxy = await proxied(t)
    await contend({
      store: storeAt(proxy.port),
      inject: async () => {
        for (let i = 0; i < 2; i++) {
          const frozen = [...proxy.connections]
          for (const connection of frozen) connection.freeze()
          await sleep(1500)
          for (const connection of frozen) connection.reset()
          await sleep(500)
        }
      }
    })
  })

  test('holders killed', async () => {
    await contend({
      store: storeAt(emulator.port),
      inject: async (contention) => {
        for (let i = 0; i < 3; i++) {
          await contention.killOne()
          await sleep(300)
        }
      }
    })
  })

  for (const seconds of [HOUR_S, -HOUR_S]) {
    test(`a process whose clock is an hour ${seconds > 0 ? 'fast' : 'slow'} neither steals nor starves`, { skip: process.platform !== 'linux' && 'LD_PRELOAD' }, async () => {
      const store = target(emulator.port)
      const backend = createFirestoreBackend(store)
      const run = async (work) => {
        const program = startSource(
          `import { createFirestoreBackend } from 'syncguard/firestore'
           const backend = createFirestoreBackend(${JSON.stringify(store)})
           const key = 'a'
           console.log(JSON.stringify({ is: 'answer', value: await (async () => { ${work} })(), clock: Date.now() }))
           await backend.close()`,
          { env: wrongClock(seconds) }
        )
        const { value, clock } = await program.hear('answer')
        assert.ok(Math.abs(clock - Date.now() - seconds * 1000) < 60_000, 'its clock is wrong')
        await program.exited
        return value
      }
      const held = isGrant(await backend.acquire({ key: 'a', ttlMs: 30_000 }))
      const refused = await run('return [(await backend.acquire({ key, ttlMs: 1000 })).ok, await backend.isLocked({ key })]')
      assert.deepEqual(refused, [false, true], 'the very first request of a process steals nothing')
      await held.release()

      const { ok, expiresAtMs, remainingMs } = await run('const held = await backend.acquire({ key, ttlMs: 2000 }); return { ...held, remainingMs: held.remainingMs() }')
      assert.equal(ok, true)
      assert.ok(Math.abs(expiresAtMs - Date.now()) < 10_000, `its lease ends ${expiresAtMs - Date.now()} ms from now`)
      assert.ok(remainingMs > 1000 && remainingMs <= 2000, `${remainingMs} ms left`)
      await sleep(Math.max(0, expiresAtMs + 1100 - Date.now()))
      const next = isGrant(await backend.acquire({ key: 'a', ttlMs: 1000 }))
      await next.release()
      await backend.close()
    })
  }

  test('killed and restarted: what it held is gone, fences still rise', async (t) => {
    const own = await FirestoreEmulator.start()
    t.after(() => own.stop())
    const backend = createFirestoreBackend(target(own.port), { operationTimeoutMs: 30_000 })
    t.after(() => backend.close())
    const key = uniqueKey()
    const held = isGrant(await backend.acquire({ key, ttlMs: 60_000 }))
    isRefusal(await backend.acquire({ key, ttlMs: 1000 }))
    await own.crash()
    await own.restart()
    const next = isGrant(await backend.acquire({ key, ttlMs: 1000 }))
    assert.ok(next.fence > held.fence)
    assert.deepEqual(await held.release(), { ok: false })
  })
})
