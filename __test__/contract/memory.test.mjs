// Section 2, the target memory: a store of this process, with the semantics of the others.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { createBackend, createLock, getByKeyRaw, lock, owns } from 'syncguard'
import { rejectsWith, saysWhatIsWrong } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { sleep, timed } from '../support/wait.mjs'

const opened = []
after(() => Promise.all(opened.map((each) => each.close())))

const keep = (closable) => (opened.push(closable), closable)
const open = async (target = 'memory:', options) => keep(await createBackend(target, options))

test('backends of one name exclude each other, those of another name do not', async () => {
  const [first, second, apart] = [await open(), await open('MEMORY:'), await open('memory:apart')]
  assert.deepEqual(first.capabilities, { backend: 'memory', supportsFencing: true, timeAuthority: 'server' })
  const key = uniqueKey()
  const held = await first.acquire({ key, ttlMs: 30_000 })
  assert.equal(held.ok, true)
  assert.deepEqual([(await second.acquire({ key, ttlMs: 30_000 })).ok, (await apart.acquire({ key, ttlMs: 30_000 })).ok], [false, true])
  assert.deepEqual([await second.isLocked({ key }), await owns(second, held.lockId)], [true, true])
  const { lockId, fence } = await getByKeyRaw(second, key)
  assert.deepEqual({ lockId, fence }, { lockId: held.lockId, fence: held.fence })
  assert.deepEqual(await second.release({ lockId: held.lockId }), { ok: true }, 'a handle belongs to its lock id')
  assert.deepEqual(await held.release(), { ok: false })
  const next = await second.acquire({ key, ttlMs: 30_000 })
  assert.ok(next.fence > held.fence)
})

test('a worker thread sees the same locks', async () => {
  const backend = await open()
  const key = uniqueKey()
  const held = await backend.acquire({ key, ttlMs: 30_000 })
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { createBackend } = require('syncguard')
    createBackend('memory:').then(async (backend) => {
      parentPort.postMessage((await backend.acquire({ key: workerData, ttlMs: 30_000 })).ok)
      await backend.close()
    })`
  const ask = async () => {
    const worker = new Worker(source, { eval: true, workerData: key })
    const [[ok]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    return ok
  }
  assert.equal(await ask(), false)
  await held.release()
  assert.equal(await ask(), true)
})

test('waiters come in turn, and a release wakes the next one', async () => {
  const run = keep(await createLock('memory:line'))
  const key = uniqueKey()
  const fences = []
  let inside = 0
  const { ms } = await timed(() =>
    Promise.all(
      Array.from({ length: 50 }, () =>
        run(
          async ({ fence }) => {
            assert.equal(++inside, 1)
            fences.push(fence)
            await sleep(1)
            inside--
          },
          { key, acquisition: { timeoutMs: 20_000, retryDelayMs: 10_000, maxRetries: 1 } }
        )
      )
    )
  )
  assert.deepEqual(fences, [...fences].sort())
  assert.equal(new Set(fences).size, 50)
  assert.ok(ms < 10_000, `nobody waited for its timer: ${ms} ms`)
})

test('a lease ends at its TTL, with the tolerance of the others, and its holder is told before', async () => {
  const backend = await open()
  const key = uniqueKey()
  const held = await backend.acquire({ key, ttlMs: 300 })
  const signalled = once(held.signal, 'abort').then(() => performance.now())
  const got = await lock(backend, () => performance.now(), { key, acquisition: { timeoutMs: 10_000 } })
  assert.equal(held.isValid(), false)
  assert.equal(held.signal.reason.code, 'LeaseLost')
  assert.ok((await signalled) < got - 900, 'the tolerance lies between the two')
  assert.deepEqual(await held.extend(1000), { ok: false })
})

test('a lease is kept through work that takes longer', async () => {
  const run = keep(await createLock('memory:'))
  const backend = await open()
  const key = uniqueKey()
  await run(
    async (handle) => {
      await sleep(2500)
      assert.equal(handle.isValid(), true)
      assert.equal((await backend.acquire({ key, ttlMs: 100 })).ok, false)
    },
    { key, ttlMs: 400, autoExtend: true }
  )
})

test('what no target or option of it is, is refused', async () => {
  saysWhatIsWrong(await rejectsWith(createBackend('memory:', { keyPrefix: 'x' }), 'InvalidArgument'), 'keyPrefix')
  saysWhatIsWrong(await rejectsWith(createBackend('memory:', { fenceRetentionMs: 1000 }), 'InvalidArgument'), 'fenceRetentionMs')
  saysWhatIsWrong(await rejectsWith(createBackend('memories:'), 'InvalidArgument'), 'memory:')
  await open('memory:', { operationTimeoutMs: 1000, connectTimeoutMs: 1000, cleanupInIsLocked: true, fenceRetentionMs: 86_400_000, disposeTimeoutMs: 100, onReleaseError() {} })
})

test('a closed backend refuses, and what it held stays until its TTL', async () => {
  const [first, second] = [await createBackend('memory:'), await open()]
  const key = uniqueKey()
  await first.acquire({ key, ttlMs: 30_000 })
  await first.close()
  await rejectsWith(first.acquire({ key, ttlMs: 1000 }), 'InvalidArgument')
  assert.equal(await second.isLocked({ key }), true)
})
