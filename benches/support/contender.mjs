// One process of the hand-over bench: `waiters` loops that enter, stay 2 ms, and leave. Answers when each entered and left.
import { performance } from 'node:perf_hooks'
import Redis from 'ioredis'
import { setTimeout as sleep } from 'node:timers/promises'

const [name, url, waiters, ms] = process.argv.slice(2)
const now = () => performance.timeOrigin + performance.now()
const KEY = `contended-${name}`

const makers = {
  async syncguard() {
    const { createLock } = await import('syncguard/redis')
    const lock = createLock(url)
    return (work) => lock(work, { key: KEY, ttlMs: 10_000, acquisition: { timeoutMs: 60_000, maxRetries: 100_000 } })
  },
  async 'redis-semaphore'() {
    const { Mutex } = await import('redis-semaphore')
    const client = new Redis(url)
    return async (work) => {
      const mutex = new Mutex(client, KEY, { lockTimeout: 10_000, refreshInterval: 0, acquireTimeout: 60_000 })
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
    const redlock = new Redlock([new Redis(url)], { retryCount: 100_000, retryDelay: 10, retryJitter: 5 })
    return async (work) => {
      const lock = await redlock.lock(KEY, 10_000)
      try {
        await work()
      } finally {
        await lock.unlock()
      }
    }
  }
}

const withLock = await makers[name]()
await withLock(async () => {})
const end = performance.now() + Number(ms)
const turns = []
await Promise.all(
  Array.from({ length: Number(waiters) }, async (_, waiter) => {
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
