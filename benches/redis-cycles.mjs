// acquire + release cycles on Redis: syncguard against redis-semaphore, redlock and a hand-written pair of
// EVALSHA calls on ioredis, one at a time and with 64 in flight on distinct keys.
import { randomBytes } from 'node:crypto'
import Redis from 'ioredis'
import Redlock from 'redlock'
import { Mutex } from 'redis-semaphore'
import { createRedisBackend } from 'syncguard/redis'
import { inTurns, latency, median, round, table, throughput } from './support/measure.mjs'
import { startRedis } from './support/redis.mjs'

const server = await startRedis()
const client = new Redis(server.port, '127.0.0.1')
const ttlMs = 30_000

// What somebody writes who needs no more: set if absent, compare and delete; no fence, no reverse mapping.
const take = await client.script('LOAD', `return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])`)
const give = await client.script('LOAD', `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)
const backend = createRedisBackend(server.url)
const redlock = new Redlock([client], { retryCount: 0 })

const contenders = [
  {
    name: 'hand-written EVALSHA pair',
    cycle: async (lane) => {
      const id = randomBytes(16).toString('base64url')
      await client.evalsha(take, 1, `hand:${lane}`, id, ttlMs)
      await client.evalsha(give, 1, `hand:${lane}`, id)
    }
  },
  {
    name: 'syncguard',
    cycle: async (lane) => {
      const held = await backend.acquire({ key: `lane:${lane}`, ttlMs })
      await held.release()
    }
  },
  {
    name: 'redis-semaphore',
    cycle: async (lane) => {
      const mutex = new Mutex(client, `semaphore:${lane}`, { lockTimeout: ttlMs, refreshInterval: 0 })
      await mutex.acquire()
      await mutex.release()
    }
  },
  {
    name: 'redlock',
    cycle: async (lane) => {
      const lock = await redlock.lock(`redlock:${lane}`, ttlMs)
      await lock.unlock()
    }
  }
]

const alone = await inTurns(contenders, 5, ({ cycle }) => latency(cycle, { count: 1500 }))
const floor = median(alone.get('hand-written EVALSHA pair'))
table(
  'One at a time: median of a cycle (smaller is better)',
  contenders.map(({ name }) => {
    const us = median(alone.get(name))
    return { contender: name, 'µs': round(us, 0), 'ratio to hand-written': round(us / floor) }
  })
)

const busy = await inTurns(contenders, 5, ({ cycle }) => throughput(cycle, { inFlight: 64, ms: 1500 }))
const peer = median(busy.get('redis-semaphore').map((r) => r.perSecond))
const peerCpu = median(busy.get('redis-semaphore').map((r) => r.mainUs))
table(
  '64 in flight on distinct keys: cycles per second (larger is better), CPU of the main thread per cycle',
  contenders.map(({ name }) => {
    const perSecond = median(busy.get(name).map((r) => r.perSecond))
    const cpu = median(busy.get(name).map((r) => r.mainUs))
    return {
      contender: name,
      'cycles/s': round(perSecond, 0),
      'ratio to redis-semaphore': round(perSecond / peer),
      'main-thread µs': round(cpu, 1),
      'ratio of CPU': round(cpu / peerCpu)
    }
  })
)
await backend.close()
client.disconnect()
server.stop()
