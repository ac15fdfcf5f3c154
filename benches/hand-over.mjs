// How soon the next waiter enters: 4 processes with 5 waiters each on one key, 2 ms inside, over Redis, PostgreSQL
// and files.
// Beside the peers a floor: a ping-pong between two processes, SUBSCRIBE/PUBLISH, LISTEN/NOTIFY or fs.watch
// (inotify on Linux). All stores, or those that are named: node benches/hand-over.mjs files
import { fork } from 'node:child_process'
import { setupSchema } from 'syncguard/postgres'
import { PostgresServer } from '../__test__/support/postgres-server.mjs'
import { median, quantile, round, table } from './support/measure.mjs'
import { answer } from './support/holders.mjs'
import { pingPong } from './support/ping-pong.mjs'
import { filesystem, temporaryDirectory } from './support/place.mjs'
import { startRedis } from './support/redis.mjs'

const PROCESSES = 4
const WAITERS = 5
const ROUND_MS = 2000
const ROUNDS = 3

// The first is ours; the second is the peer whose p99 is the yardstick.
const stores = {
  redis: { contenders: ['syncguard', 'redis-semaphore', 'redlock'], open: async () => ({ target: (await startRedis()).url, title: 'Redis' }) },
  postgres: { contenders: ['syncguard', 'pg_advisory_lock'], open: openPostgres },
  files: { contenders: ['syncguard', 'proper-lockfile'], open: async () => filesOf(temporaryDirectory()) }
}

async function openPostgres() {
  const server = await PostgresServer.start()
  await setupSchema(server.url)
  return { target: server.url, title: 'PostgreSQL with fsync off' }
}

const filesOf = (dir) => ({ target: dir, title: `files on ${filesystem(dir)}` })

async function contend(name, store, target) {
  const worker = new URL('support/contender.mjs', import.meta.url)
  const config = JSON.stringify({ name, store, target, waiters: WAITERS, ms: ROUND_MS })
  const children = Array.from({ length: PROCESSES }, () => fork(worker, [config]))
  await Promise.all(children.map((child) => answer(child, name)))
  for (const child of children) child.send('start')
  const turns = (await Promise.all(children.map(async (child, process) => (await answer(child, name)).map((entry) => ({ ...entry, process }))))).flat()
  turns.sort((x, y) => x.entered - y.entered)
  const gaps = turns.slice(1).map((turn, i) => turn.entered - turns[i].released)
  const counts = new Map()
  for (const { process, waiter } of turns) counts.set(`${process}:${waiter}`, (counts.get(`${process}:${waiter}`) ?? 0) + 1)
  const shares = [...counts.values()]
  while (shares.length < PROCESSES * WAITERS) shares.push(0)
  const sum = shares.reduce((x, y) => x + y, 0)
  const jain = sum ** 2 / (shares.length * shares.reduce((x, y) => x + y * y, 0))
  const overlaps = gaps.filter((gap) => gap < -0.05).length
  const seconds = (turns.at(-1).released - turns[0].entered) / 1000
  return { p50: median(gaps), p99: quantile(gaps, 0.99), perSecond: turns.length / seconds, jain, overlaps }
}

async function contest(store) {
  const { contenders, open } = stores[store]
  const { target, title } = await open()
  const floor = await pingPong(store, target, 200)
  const results = new Map(contenders.map((name) => [name, []]))
  for (let i = 0; i < ROUNDS; i++) {
    for (const name of contenders) results.get(name).push(await contend(name, store, target))
  }
  const of = (name, what) => median(results.get(name).map((result) => result[what]))
  const [, yardstick] = contenders
  const bestPeer = Math.max(...contenders.slice(1).map((name) => of(name, 'perSecond')))
  table(
    `${PROCESSES} processes x ${WAITERS} waiters, 2 ms inside, ${title} (one way of a ping-pong: median ${round(median(floor))} ms, p99 ${round(quantile(floor, 0.99))} ms)`,
    contenders.map((name) => ({
      contender: name,
      'gap p50, ms': round(of(name, 'p50')),
      'gap p99, ms': round(of(name, 'p99')),
      [`p99 to ${yardstick}`]: round(of(name, 'p99') / of(yardstick, 'p99'), 3),
      'turns/s': round(of(name, 'perSecond'), 0),
      'turns to best peer': round(of(name, 'perSecond') / bestPeer),
      "Jain's index": round(of(name, 'jain'), 3),
      overlaps: Math.max(...results.get(name).map((result) => result.overlaps))
    }))
  )
}

const asked = process.argv.slice(2)
for (const store of asked.length > 0 ? asked : Object.keys(stores)) await contest(store)
process.exit(0)
