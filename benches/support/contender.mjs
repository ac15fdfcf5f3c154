// One process of the hand-over bench: `waiters` loops that enter, stay 2 ms, and leave. Says when it is ready, starts
// when it is told to, and answers when each entered and left.
import { once } from 'node:events'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'

const { name, store, target, waiters, ms } = JSON.parse(process.argv[2])
const now = () => performance.timeOrigin + performance.now()
const KEY = `contended-${name}`
const TTL_MS = 10_000
const patient = { timeoutMs: 60_000, maxRetries: 100_000 }

const makers = {
  redis: {
    async syncguard() {
      const { createLock } = await import('syncguard/redis')
      const lock = createLock(target)
      return (work) => lock(work, { key: KEY, ttlMs: TTL_MS, acquisition: patient })
    },
    async 'redis-semaphore'() {
      const { Mutex } = await import('redis-semaphore')
      const client = await redisClient()
      return async (work) => {
        const mutex = new Mutex(client, KEY, { lockTimeout: TTL_MS, refreshInterval: 0, acquireTimeout: 60_000 })
        await mutex.acquire()
        try {
          await work()
        } finally {
          await mutex.release()
        }
      }
    },
    async redlock() {
      const { default: Redlock } = await import('redlock')
      const redlock = new Redlock([await redisClient()], { retryCount: 100_000, retryDelay: 10, retryJitter: 5 })
      return async (work) => {
        const lock = await redlock.lock(KEY, TTL_MS)
        try {
          await work()
        } finally {
          await lock.unlock()
        }
      }
    }
  },
  postgres: {
    async syncguard() {
      const { createLock } = await import('syncguard/postgres')
      const lock = createLock(target)
      return (work) => lock(work, { key: KEY, ttlMs: TTL_MS, acquisition: patient })
    },
    // A lock of the session, so each waiter has a connection of its own.
    async 'pg_advisory_lock'() {
      const { default: pg } = await import('pg')
      const idle = await Promise.all(
        Array.from({ length: waiters }, async () => {
          const client = new pg.Client(target)
          await client.connect()
          return client
        })
      )
      return async (work) => {
        const client = idle.pop()
        await client.query({ name: 'lock', text: 'select pg_advisory_lock(1)' })
        try {
          await work()
        } finally {
          await client.query({ name: 'unlock', text: 'select pg_advisory_unlock(1)' })
          idle.push(client)
        }
      }
    }
  },
  files: {
    async syncguard() {
      const { createLock } = await import('syncguard/file')
      const lock = createLock(join(target, 'locks'))
      return (work) => lock(work, { key: KEY, ttlMs: TTL_MS, acquisition: patient })
    },
    async 'proper-lockfile'() {
      const { default: lockfile } = await import('proper-lockfile')
      const retries = { retries: 100_000, factor: 1, minTimeout: 10, randomize: true } // every 10 to 20 ms
      return async (work) => {
        const release = await lockfile.lock(join(target, KEY), { realpath: false, retries })
        try {
          await work()
        } finally {
          await release()
        }
      }
    }
  }
}

async function redisClient() {
  const { default: Redis } = await import('ioredis')
  return new Redis(target)
}

const withLock = await makers[store][name]()
await withLock(async () => {}) // what the first one costs
process.send('ready')
await once(process, 'message')
const end = performance.now() + ms
const turns = []
await Promise.all(
  Array.from({ length: waiters }, async (_, waiter) => {
    while (performance.now() < end) {
      await withLock(async () => {
        const entered = now()
        await sleep(2)
        turns.push({ waiter, entered, released: now() })
      })
    }
  })
)
process.send(turns, () => process.exit(0))
