// A process that holds `count` locks of one kind: how much memory each takes, and what keeping them costs.
// Started by holders.mjs with --expose-gc. Messages: `cpu` begins a measurement or answers the one under way.
import { mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const { kind, count, target, ttlMs, refreshMs } = JSON.parse(process.argv[2])
const AT_ONCE = 64

/** `take(i)` takes lock number i, `give` gives back what it answered, `isHeld` asks that where it can be asked. */
const kinds = {
  'file backend'() {
    const backend = require('syncguard/file').createFileBackend(target)
    return handles((i) => backend.acquire({ key: `lock-${i}`, ttlMs }))
  },
  FileLock() {
    const { FileLock } = require('syncguard/file')
    return {
      take: (i) => new FileLock(join(target, `lock-${i}`)).acquire(),
      give: (lock) => lock.release(),
      isHeld: (lock) => lock.held
    }
  },
  'proper-lockfile'() {
    const lockfile = require('proper-lockfile')
    mkdirSync(target, { recursive: true })
    const options = { realpath: false, stale: ttlMs, update: refreshMs }
    return { take: (i) => lockfile.lock(join(target, `lock-${i}`), options), give: (release) => release(), isHeld: () => true }
  },
  'kept Redis leases'() {
    const backend = require('syncguard/redis').createRedisBackend(target)
    return handles((i) => backend.acquire({ key: `lock-${i}`, ttlMs, autoExtend: true }))
  },
  'redis-semaphore'() {
    const Redis = require('ioredis')
    const { Mutex } = require('redis-semaphore')
    const client = new Redis(target)
    const options = { lockTimeout: ttlMs, refreshInterval: refreshMs, acquireTimeout: 60_000 }
    return {
      async take(i) {
        const mutex = new Mutex(client, `lock-${i}`, options)
        await mutex.acquire()
        return mutex
      },
      give: (mutex) => mutex.release(),
      isHeld: (mutex) => mutex.isAcquired
    }
  }
}

function handles(acquire) {
  return {
    async take(i) {
      const granted = await acquire(i)
      if (!granted.ok) throw new Error('the lock is held by somebody else')
      return granted
    },
    give: (granted) => granted.release(),
    isHeld: (granted) => granted.isValid()
  }
}

function memory() {
  for (let i = 0; i < 3; i++) globalThis.gc()
  const { rss, heapUsed } = process.memoryUsage()
  return { rss, heapUsed }
}

const { take, give, isHeld } = kinds[kind]()
/** Takes locks `from` to `to`, AT_ONCE in flight. */
async function takeAll(from, to) {
  const taken = []
  let next = from
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < to) taken.push(await take(next++))
    })
  )
  return taken
}

// The first thousand pay for code, threads and connections.
for (const lock of await takeAll(count, count + 1000)) await give(lock)
const before = memory()
const held = await takeAll(0, count)
const after = memory()

let begin
process.on('message', () => {
  if (begin === undefined) {
    begin = { cpu: process.cpuUsage(), at: performance.now() }
    return
  }
  const { user, system } = process.cpuUsage(begin.cpu)
  const seconds = (performance.now() - begin.at) / 1000
  const stillHeld = held.filter(isHeld).length
  begin = undefined
  process.send({ cpuPercent: (user + system) / 1e4 / seconds, stillHeld })
})
process.once('disconnect', () => process.exit(0))
process.send({ rss: (after.rss - before.rss) / count, heap: (after.heapUsed - before.heapUsed) / count })
