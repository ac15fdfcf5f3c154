// acquire + release cycles on Redis: syncguard against redis-semaphore, redlock and a hand-written pair of
// EVALSHA calls on ioredis, one at a time and with 8 and 64 in flight on distinct keys.
import { randomBytes } from 'node:crypto'
import Redis from 'ioredis'
import Redlock from 'redlock'
import { Mutex } from 'redis-semaphore'
import { createRedisBackend } from 'syncguard/redis'
import { inTurns, latencyAndCpu, median, round, table, throughput } from './support/measure.mjs'
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

const FLOOR = 'hand-written EVALSHA pair'
const PEER = 'redis-semaphore'
const serverPid = server.pid

const alone = await inTurns(contenders, 5, ({ cycle }) => latencyAndCpu(cycle, { count: 1500, serverPid }))
const ofAlone = (name, what) => median(alone.get(name).map((result) => result[what]))
table(
  'One at a time: median of a cycle, and CPU per cycle: of all threads of this process, and of redis-server (smaller is better)',
  contenders.map(({ name }) => ({
    contender: name,
    'µs': round(ofAlone(name, 'us'), 0),
    'ratio to hand-written': round(ofAlone(name, 'us') / ofAlone(FLOOR, 'us')),
    'process µs': round(ofAlone(name, 'allUs'), 0),
    'ratio ': round(ofAlone(name, 'allUs') / ofAlone(FLOOR, 'allUs')),
    'server µs': round(ofAlone(name, 'serverUs'), 1),
    'ratio  ': round(ofAlone(name, 'serverUs') / ofAlone(FLOOR, 'serverUs'))
  }))
)

for (const inFlight of [8, 64]) {
  const busy = await inTurns(contenders, 5, ({ cycle }) => throughput(cycle, { inFlight, ms: 1000, serverPid }))
  const of = (name, what) => median(busy.get(name).map((result) => result[what]))
  table(
    `${inFlight} in flight on distinct keys: cycles per second (larger is better), CPU per cycle, and what redis-server could do if it had a core to itself`,
    contenders.map(({ name }) => ({
      contender: name,
      'cycles/s': round(of(name, 'perSecond'), 0),
      'ratio to redis-semaphore': round(of(name, 'perSecond') / of(PEER, 'perSecond')),
      'main-thread µs': round(of(name, 'mainUs'), 1),
      'process µs': round(of(name, 'allUs'), 1),
      'ratio of CPU': round(of(name, 'allUs') / of(PEER, 'allUs')),
      'server µs': round(of(name, 'serverUs'), 1),
      'limit, cycles/s': round(1e6 / of(name, 'serverUs'), 0)
    }))
  )
}
await backend.close()
client.disconnect()
server.stop()
