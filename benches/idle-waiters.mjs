// 200 waiters in one process on one key of a Redis that another process holds: what they cost while they wait, and
// how soon after its release all have had the lock and left. Against redlock with its usual delay and jitter.
import { fork } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import Redis from 'ioredis'
import Redlock from 'redlock'
import { createRedisBackend } from 'syncguard/redis'
import { answer } from './support/holders.mjs'
import { median, round, table } from './support/measure.mjs'
import { commands, resetCommands } from './support/redis-commands.mjs'
import { startRedis } from './support/redis.mjs'

const WAITERS = 200
const IDLE_MS = 4000
const ROUNDS = 3

const server = await startRedis()
const client = new Redis(server.url)
const backend = createRedisBackend(server.url)
const redlock = new Redlock([client])
const holders = {
  async syncguard(key) {
    const held = await backend.acquire({ key, ttlMs: 60_000 })
    return () => held.release()
  },
  async redlock(key) {
    const lock = await redlock.lock(key, 60_000)
    return () => lock.unlock()
  }
}

let keys = 0
async function crowd(name) {
  const key = `crowded-${keys++}`
  const release = await holders[name](key)
  const config = JSON.stringify({ name, url: server.url, key, waiters: WAITERS })
  const child = fork(new URL('support/crowd.mjs', import.meta.url), [config])
  await answer(child, name)
  await resetCommands(client)
  child.send('begin')
  await sleep(IDLE_MS)
  const { scripts, all } = await commands(client)
  child.send('end')
  const { cpuMsPerSecond } = await answer(child, name)
  const drained = answer(child, name)
  const released = performance.timeOrigin + performance.now()
  await release()
  const drainMs = (await drained).drained - released
  return { scripts: (scripts * 1000) / IDLE_MS, all: (all * 1000) / IDLE_MS, cpuMsPerSecond, drainMs }
}

const names = Object.keys(holders)
const results = new Map(names.map((name) => [name, []]))
for (let i = 0; i < ROUNDS; i++) for (const name of names) results.get(name).push(await crowd(name))
const of = (name, what) => median(results.get(name).map((result) => result[what]))
table(
  `${WAITERS} waiters in one process on one held key of a Redis`,
  names.map((name) => ({
    contender: name,
    'scripts/s': round(of(name, 'scripts'), 1),
    'commands/s, with those in scripts': round(of(name, 'all'), 1),
    'CPU, ms/s': round(of(name, 'cpuMsPerSecond'), 1),
    'all through after, ms': round(of(name, 'drainMs'), 0),
    'ratio to redlock': round(of(name, 'drainMs') / of('redlock', 'drainMs'))
  }))
)
await backend.close()
process.exit(0)
