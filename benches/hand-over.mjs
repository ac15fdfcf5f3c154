// How soon the next waiter enters: 4 processes with 5 waiters each on one key of a Redis, 2 ms inside.
// Beside the peers a floor: a SUBSCRIBE/PUBLISH ping-pong between two connections.
import { fork } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import Redis from 'ioredis'
import { median, quantile, round, table } from './support/measure.mjs'
import { startRedis } from './support/redis.mjs'

const PROCESSES = 4
const WAITERS = 5
const ROUND_MS = 4000
const names = ['syncguard', 'redis-semaphore', 'redlock']

const server = await startRedis()

async function pingPong(count) {
  const [a, b] = [new Redis(server.url), new Redis(server.url)]
  const [toA, toB] = [new Redis(server.url), new Redis(server.url)]
  await a.subscribe('pong')
  await b.subscribe('ping')
  b.on('message', () => toA.publish('pong', ''))
  const times = []
  for (let i = 0; i < count; i++) {
    const begin = performance.now()
    const answered = new Promise((resolve) => a.once('message', resolve))
    await toB.publish('ping', '')
    await answered
    times.push((performance.now() - begin) / 2) // one way
  }
  for (const client of [a, b, toA, toB]) client.disconnect()
  return times
}

async function contend(name) {
  const worker = new URL('support/contender.mjs', import.meta.url)
  const children = Array.from({ length: PROCESSES }, () => fork(worker, [name, server.url, String(WAITERS), String(ROUND_MS)]))
  const turns = (
    await Promise.all(
      children.map((child, process) =>
        new Promise((resolve, reject) => {
          child.once('message', (entries) => resolve(entries.map((entry) => ({ ...entry, process }))))
          child.once('exit', (code) => code && reject(new Error(`${name}: a process failed`)))
        })
      )
    )
  ).flat()
  turns.sort((x, y) => x.entered - y.entered)
  const gaps = turns.slice(1).map((turn, i) => turn.entered - turns[i].released)
  const counts = new Map()
  for (const { process, waiter } of turns) counts.set(`${process}:${waiter}`, (counts.get(`${process}:${waiter}`) ?? 0) + 1)
  const shares = [...counts.values()]
  while (shares.length < PROCESSES * WAITERS) shares.push(0)
  const sum = shares.reduce((x, y) => x + y, 0)
  const jain = sum ** 2 / (shares.length * shares.reduce((x, y) => x + y * y, 0))
  const overlaps = gaps.filter((gap) => gap < -0.05).length
  return { p50: median(gaps), p99: quantile(gaps, 0.99), perSecond: turns.length / (ROUND_MS / 1000), jain, overlaps }
}

const floor = await pingPong(300)
const results = new Map(names.map((name) => [name, []]))
for (let round = 0; round < 3; round++) for (const name of names) results.get(name).push(await contend(name))
const of = (name, what) => median(results.get(name).map((result) => result[what]))
table(`4 processes x 5 waiters, 2 ms inside, Redis (one way of a ping-pong: median ${round(median(floor))} ms, p99 ${round(quantile(floor, 0.99))} ms)`,
  names.map((name) => ({
    contender: name,
    'gap p50, ms': round(of(name, 'p50')),
    'gap p99, ms': round(of(name, 'p99')),
    'p99 to redis-semaphore': round(of(name, 'p99') / of('redis-semaphore', 'p99')),
    'turns/s': round(of(name, 'perSecond'), 0),
    'turns to best peer': round(of(name, 'perSecond') / Math.max(of('redis-semaphore', 'perSecond'), of('redlock', 'perSecond'))),
    "Jain's index": round(of(name, 'jain'), 3),
    overlaps: Math.max(...results.get(name).map((result) => result.overlaps))
  })))
server.stop()
process.exit(0)
