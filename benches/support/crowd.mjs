// A process with many waiters on one held key of a Redis. Says when all wait; on the first message begins to count its
// CPU, on the second answers that; and says when the last waiter has had the lock and left.
import { once } from 'node:events'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import Redis from 'ioredis'
import Redlock from 'redlock'
import { createLock } from 'syncguard/redis'

const { name, url, key, waiters } = JSON.parse(process.argv[2])

const makers = {
  syncguard() {
    const lock = createLock(url)
    const acquisition = { timeoutMs: 60_000, maxRetries: 100_000 }
    return () => lock(async () => {}, { key, ttlMs: 30_000, acquisition })
  },
  redlock() {
    // Its own delay and jitter, but nobody gives up.
    const redlock = new Redlock([new Redis(url)], { retryCount: 100_000, retryDelay: 200, retryJitter: 100 })
    return async () => (await redlock.lock(key, 30_000)).unlock()
  }
}

const enterAndLeave = makers[name]()
const all = Promise.all(Array.from({ length: waiters }, enterAndLeave))
await sleep(1500) // connections, first attempts, the first steps of a back-off
process.send('waiting')
await once(process, 'message')
const cpu = process.cpuUsage()
const begin = performance.now()
await once(process, 'message')
const { user, system } = process.cpuUsage(cpu)
process.send({ cpuMsPerSecond: (user + system) / 1000 / ((performance.now() - begin) / 1000) })
await all
process.send({ drained: performance.timeOrigin + performance.now() }, () => process.exit(0))
