// Several copies of the package in one thread: each hears of its own leases, calls its own functions, and works beside the others.
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import vm from 'node:vm'
import { createClient } from 'redis'
import { copyInContext, freshCopy } from '../support/copies.mjs'
import { createMemoryBackend } from '../support/javascript-backend.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { skipWithout } from '../support/needs.mjs'
import { startSource } from '../support/processes.mjs'
import { temporaryDirectory } from '../support/server-process.mjs'
import { RedisServer } from '../support/servers.mjs'
import { deferred, sleep, until } from '../support/wait.mjs'

const directory = temporaryDirectory('copies')
// Waiting for a loss keeps no process alive, and should not.
const alive = setInterval(() => {}, 1 << 30)
after(() => (clearInterval(alive), rmSync(directory, { recursive: true, force: true })))

const kinds = {
  'a cleared require cache': () => freshCopy(['index', 'common', 'file', 'pid', 'redis']),
  'the addon asked for anew, too': () => freshCopy(['index', 'common', 'file', 'pid', 'redis'], { native: true }),
  'a context of vm': () => copyInContext(['index', 'common', 'file', 'pid', 'redis'])
}

for (const [kind, make] of Object.entries(kinds)) {
  describe(`copies by ${kind}`, () => {
    const [first, second, third] = [make(), make(), make()]
    const copies = [first, second, third]

    test('are copies', () => {
      assert.notEqual(first.index.LockError, second.index.LockError)
      assert.equal(first.index.LockError, first.redis.LockError ?? first.common.LockError)
    })

    test('each hears of the loss of its own lease by signal and onLeaseLost, once', async () => {
      const told = copies.map(() => [])
      const held = await Promise.all(
        copies.map(async ({ file }, i) => {
          const backend = file.createFileBackend(directory)
          const onLeaseLost = (error, { lockId }) => told[i].push([error, lockId])
          return backend.acquire({ key: uniqueKey('loss'), ttlMs: 300, onLeaseLost })
        })
      )
      const aborted = held.map(({ signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(signal.reason))))
      for (const [i, { LockError }] of copies.map(({ index }) => index).entries()) {
        const reason = await aborted[i]
        assert.equal(reason.code, 'LeaseLost')
        assert.ok(reason instanceof LockError)
        assert.deepEqual(told[i], [[reason, held[i].lockId]])
      }
    })

    test('each hears of the loss of its own lease file', async () => {
      const told = copies.map(() => 0)
      const locks = copies.map(({ file }, i) => new file.FileLock(`${directory}/${uniqueKey('lease')}`, { leaseHeartbeatIntervalMs: 20, onLeaseLost: () => told[i]++ }))
      await Promise.all(locks.map((lock) => lock.acquire()))
      for (const i of [0, 2, 1]) {
        rmSync(locks[i].path)
        const before = [...told]
        await until(() => told[i] === before[i] + 1, { what: `the loss of lease file ${i}` })
        assert.deepEqual(
          told.filter((_, other) => other !== i),
          before.filter((_, other) => other !== i)
        )
      }
      assert.deepEqual(
        locks.map(({ held }) => held),
        [false, false, false]
      )
    })

    test("each is asked about the life of a lease file's owner by its own function", async () => {
      const asked = copies.map(() => [])
      for (const [i, { file }] of copies.entries()) {
        const path = `${directory}/${uniqueKey('probe')}`
        mkdirSync(directory, { recursive: true })
        const nanos = `${Date.now()}000000`
        writeFileSync(path, `{"version":1,"ownerID":"4242-${nanos}-1","pid":4242,"lastHeartbeatUnixNano":${nanos}}\n`)
        const lock = new file.FileLock(path, { processAppearsAlive: (pid) => (asked[i].push(pid), i !== 1) })
        if (i === 1) await (await lock.acquire()).release()
        else await assert.rejects(lock.acquire(), { code: 'AcquisitionTimeout' })
      }
      assert.deepEqual(
        asked.map(([pid]) => pid),
        [4242, 4242, 4242]
      )
    })

    test('lock() on a backend written in JavaScript works in all of them at once', async () => {
      const backends = copies.map(() => createMemoryBackend({ before: () => sleep(1) }))
      let shared = 0
      const both = createMemoryBackend({ before: () => sleep(1) })
      const run = async ({ index }, own) => {
        for (let i = 0; i < 20; i++) {
          assert.match(await index.lock(own, (held) => held.lockId, { key: 'k' }), /^[\w-]{22}$/)
          await index.lock(
            both,
            async () => {
              const seen = ++shared
              await sleep(1)
              assert.equal(shared, seen)
            },
            { key: 'shared', acquisition: { timeoutMs: 60_000, maxRetries: 1000, retryDelayMs: 2, backoff: 'fixed' } }
          )
        }
      }
      await Promise.all(copies.map((copy, i) => run(copy, backends[i])))
      assert.equal(shared, 60)
      for (const { leases } of [...backends, both]) assert.equal(leases.size, 0)
    })

    test('a backend of one copy serves lock() and withTelemetry of another', async () => {
      const events = []
      const own = first.file.createFileBackend(directory)
      const observed = second.index.withTelemetry(own, { onEvent: ({ type, result }) => events.push(`${type} ${result}`) })
      const key = uniqueKey('across')
      assert.equal(await third.index.lock(observed, (held) => held.isValid(), { key }), true)
      assert.deepEqual(events, ['acquire ok', 'release ok'])
      assert.equal(await own.isLocked({ key }), false)
    })

    test('waiters of all copies stand in one line, in the order in which they came', async () => {
      const key = uniqueKey('line')
      const create = await Promise.all(copies.map(async ({ file }) => file.createLock(directory)))
      const [holding, letGo] = [deferred(), deferred()]
      const holder = create[0](() => (holding.resolve(), letGo.promise), { key })
      await holding.promise
      const order = []
      const waiters = []
      for (let i = 0; i < 9; i++) {
        waiters.push(create[i % 3](() => order.push(i), { key, acquisition: { timeoutMs: 20_000 } }))
        await sleep(5)
      }
      letGo.resolve()
      await Promise.all([holder, ...waiters])
      assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8])
    })

    test('each claims an instance and lets go of it', async () => {
      const name = uniqueKey('instance').replaceAll(/[^a-z0-9-]/gi, '-')
      const claim = await first.pid.guard(directory, name)
      await assert.rejects(second.pid.guard(directory, name), { code: 'AcquisitionTimeout' })
      await claim.cleanup()
      await (await third.pid.guard(directory, name)).cleanup()
    })

    const skip = skipWithout('redis')
    describe('passwords', { skip }, () => {
      if (skip) return
      let server
      const users = ['ann', 'bob', 'eve']
      before(async () => {
        server = await RedisServer.start({ acl: users.map((user) => `${user} on >of-${user} ~* &* +@all`) })
      })
      after(() => server.stop())

      test('each asks its own password function, given as a fact or by an adopted client', async () => {
        const asked = []
        for (const adopted of [false, true]) {
          const backends = copies.map(({ redis }, i) => {
            const user = users[i]
            const password = async () => (asked.push(user), `of-${user}`)
            const socket = { host: '127.0.0.1', port: server.port }
            const credentials = async () => ({ username: user, password: await password() })
            const client = adopted && createClient({ socket, credentialsProvider: { type: 'async-credentials-provider', credentials } })
            return redis.createRedisBackend(client || { ...socket, username: user, password })
          })
          await Promise.all(backends.map((backend) => backend.isLocked({ key: 'k' })))
          assert.deepEqual([...new Set(asked.splice(0))].sort(), users)
          const names = (await server.raw.client('LIST')).match(/user=\S+/g)
          for (const user of users) assert.ok(names.includes(`user=${user}`), names.join())
          await Promise.all(backends.map((backend) => backend.close()))
        }
      })
    })
  })
}

test('a copy in a context without Symbol.asyncDispose provides it, the same one as everybody', async () => {
  const copy = copyInContext(['file'])
  const held = await copy.file.createFileBackend(directory).acquire({ key: uniqueKey('dispose'), ttlMs: 10_000 })
  const there = vm.runInContext('Symbol.asyncDispose', copy.context)
  assert.equal(typeof there, 'symbol')
  assert.equal(there, Symbol.asyncDispose)
  assert.equal('undefined' in held, false)
  await held[there]()
  assert.equal(held.isValid(), false)
})

/** Runs source with a garbage collector at hand, and `collect(what, done)`, which collects until `done()`. */
async function withCollector(source) {
  const program = startSource(
    `import { readdirSync } from 'node:fs'
     import { copyInContext, freshCopy } from './__test__/support/copies.mjs'
     const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
     const say = (value) => console.log(JSON.stringify(value))
     const collect = async (done) => { for (let i = 0; i < 200 && !done(); i++) { await sleep(10); gc() } return done() }
     const directory = ${JSON.stringify(directory)}
     // Node keeps the first one, which was the first to require the addon.
     freshCopy(['index', 'file', 'pid', 'redis'])
     ${source}`,
    { execArgv: ['--expose-gc'] }
  )
  const { code, stderr } = await program.exited
  assert.equal(code, 0, stderr)
  return program.lines
}

const loads = {
  'a cleared require cache': 'freshCopy(entries)',
  'a context of vm each': 'copyInContext(entries)'
}
for (const [kind, load] of Object.entries(loads)) {
  test(`two hundred copies by ${kind} that are used and dropped leave nothing behind`, async () => {
    const lines = await withCollector(`
      const entries = ['index', 'file', 'pid', 'common']
      const measure = () => {
        const { heapUsed, external } = process.memoryUsage()
        return { heap: heapUsed, external, descriptors: readdirSync('/proc/self/fd').length, threads: readdirSync('/proc/self/task').length,
          resources: process.getActiveResourcesInfo().length, exits: process.listenerCount('exit') }
      }
      const signal = new AbortController().signal
      async function use(i) {
        const { index, file, pid, common } = ${load}
        const backend = file.createFileBackend(directory)
        const held = await backend.acquire({ key: 'released' + i, ttlMs: 60_000, signal, onLeaseLost() {} })
        held.signal
        await held.release()
        await backend.acquire({ key: 'left' + i, ttlMs: 60_000 })
        await backend.acquire({ key: 'lost' + i, ttlMs: 1, onLeaseLost() {} })
        await index.lock(backend, () => {}, { key: 'locked' + i, signal })
        await index.lock({ acquire: async () => ({ ok: true, lockId: common.generateLockId(), expiresAtMs: 1 }), release: async () => ({ ok: true }), extend() {}, isLocked() {}, lookup() {} }, () => {}, { key: 'js' })
        const path = directory + '/dropped-' + i
        await (await new file.FileLock(path).acquire()).release()
        await (await pid.guard(directory, 'dropped-' + i)).cleanup()
        return new WeakRef(backend)
      }
      say('begins') // Opens what output needs.
      const all = []
      for (let i = 0; i < 220; i++) {
        all.push(await use(i))
        if (i === 19 || i === 219) {
          const done = await collect(() => all.slice(0, -1).every((ref) => !ref.deref()))
          for (let j = 0; j < 5; j++) { await sleep(10); gc() }
          say({ collected: done, ...measure() })
        }
      }`)
    const [, early, late] = lines
    assert.equal(early.collected, true)
    assert.equal(late.collected, true)
    assert.ok(late.heap - early.heap < 4e6, `the heap grew by ${late.heap - early.heap} bytes`)
    assert.ok(late.external - early.external < 4e6, `external memory grew by ${late.external - early.external} bytes`)
    assert.ok(late.descriptors <= early.descriptors + 5, JSON.stringify(lines))
    assert.ok(late.threads <= early.threads + 4, JSON.stringify(lines))
    assert.equal(late.resources, early.resources)
    assert.equal(late.exits, early.exits)
  })
}

test('a copy of which only a signal or a callback is left still tells of the loss', async () => {
  const lines = await withCollector(`
    const alive = setInterval(() => {}, 1000)
    const told = []
    async function begin() {
      const { file } = freshCopy(['file'])
      const backend = file.createFileBackend(directory)
      const { signal } = await backend.acquire({ key: 'watched' + process.pid, ttlMs: 1500 })
      signal.addEventListener('abort', () => told.push('signal ' + signal.reason.code))
      await backend.acquire({ key: 'listened' + process.pid, ttlMs: 1500, onLeaseLost: ({ code }) => told.push('callback ' + code) })
      return { signal, copy: new WeakRef(backend) }
    }
    const { copy, signal } = await begin()
    freshCopy(['file'])
    for (let i = 0; i < 60 && told.length < 2; i++) { await sleep(50); gc() }
    say({ told: told.sort(), aborted: signal.aborted })
    say({ collected: await collect(() => !copy.deref()) })
    clearInterval(alive)`)
  assert.deepEqual(lines, [{ told: ['callback LeaseLost', 'signal LeaseLost'], aborted: true }, { collected: true }])
})

test('a lease file and an instance stay claimed when their copy is dropped', async () => {
  const lines = await withCollector(`
    import { existsSync } from 'node:fs'
    const path = directory + '/kept-file-' + process.pid
    async function begin() {
      const { file, pid } = freshCopy(['file', 'pid'])
      await new file.FileLock(path).acquire()
      await pid.guard(directory, 'kept-' + process.pid)
    }
    await begin()
    const { file, pid } = freshCopy(['file', 'pid'])
    for (let i = 0; i < 30; i++) { await sleep(20); gc() }
    say(await new file.FileLock(path).acquire().then(() => 'taken', ({ code }) => code))
    say(await pid.guard(directory, 'kept-' + process.pid).then(() => 'taken', ({ code }) => code))
    process.on('exit', () => say({ existed: existsSync(path) }))`)
  assert.deepEqual(lines, ['AcquisitionTimeout', 'AcquisitionTimeout', { existed: false }])
})

test('a password function goes with its backend, closed or not', async () => {
  const lines = await withCollector(`
    const { redis } = freshCopy(['redis'])
    const secrets = []
    for (let i = 0; i < 20; i++) {
      const secret = { i }
      secrets.push(new WeakRef(secret))
      redis.createRedisBackend({ host: '127.0.0.1', port: 1, db: 0, password: () => String(secret) })
    }
    say(await collect(() => secrets.every((ref) => !ref.deref())))`)
  assert.deepEqual(lines, [true])
})

test('a worker with several copies ends cleanly, and what each of them holds is released', async () => {
  const lines = await withCollector(`
    import { once } from 'node:events'
    import { Worker } from 'node:worker_threads'
    const keys = ['one', 'two', 'three'].map((name) => name + process.pid)
    const worker = new Worker(\`
      import { parentPort, workerData } from 'node:worker_threads'
      const { freshCopy } = await import(workerData.copies)
      for (const key of workerData.keys) {
        const { file } = freshCopy(['file'])
        const { ok } = await file.createFileBackend(workerData.directory).acquire({ key, ttlMs: 600_000, autoExtend: true, onLeaseLost() {} })
        parentPort.postMessage(ok)
      }
      setInterval(() => {}, 1000)\`, { eval: true, workerData: { keys, directory, copies: ${JSON.stringify(new URL('../support/copies.mjs', import.meta.url).href)} } })
    for (const _ of keys) await once(worker, 'message')
    const { file } = freshCopy(['file'])
    const backend = file.createFileBackend(directory)
    const held = () => Promise.all(keys.map((key) => backend.isLocked({ key })))
    say(await held())
    await worker.terminate()
    for (let i = 0; i < 200 && (await held()).includes(true); i++) await sleep(20)
    say(await held())`)
  assert.deepEqual(lines, [
    [true, true, true],
    [false, false, false]
  ])
})
