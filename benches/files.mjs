// Locks without a server: the file backend and FileLock against proper-lockfile, on one filesystem.
// proper-lockfile runs with `realpath: false`, its cheaper way. The directory is below TMPDIR; which filesystem that is
// on decides much, so it is named.
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import lockfile from 'proper-lockfile'
import { createFileBackend, FileLock } from 'syncguard/file'
import { startHolder } from './support/holders.mjs'
import { inTurns, latency, median, round, table, throughput } from './support/measure.mjs'
import { filesystem, temporaryDirectory } from './support/place.mjs'

const dir = temporaryDirectory()
const ttlMs = 30_000
const backend = createFileBackend(join(dir, 'backend'))
let fresh = 0

const PEER = 'proper-lockfile'
const contenders = [
  {
    name: 'file backend',
    cycle: async (lane) => {
      const held = await backend.acquire({ key: `lane-${lane}`, ttlMs })
      await held.release()
    }
  },
  {
    name: 'FileLock',
    cycle: async (lane) => {
      const lock = await new FileLock(join(dir, `lane-${lane}.lease`)).acquire()
      await lock.release()
    }
  },
  {
    name: PEER,
    cycle: async (lane) => {
      const release = await lockfile.lock(join(dir, `lane-${lane}`), { realpath: false })
      await release()
    }
  }
]

const alone = await inTurns(contenders, 5, ({ cycle }) => latency(cycle, { count: 400, ms: 300 }))
const anew = await inTurns(contenders, 5, ({ cycle }) => latency(() => cycle(`new-${fresh++}`), { count: 200, ms: 300 }))
const busy = await inTurns(contenders, 5, ({ cycle }) => throughput(cycle, { inFlight: 8, ms: 400 }))
const us = (results, name) => median(results.get(name))
const perSecond = (name) => median(busy.get(name).map((r) => r.perSecond))
table(
  `acquire + release on ${filesystem(dir)}: one at a time on one key and on a new key each time (median), and 8 in flight on distinct keys`,
  contenders.map(({ name }) => ({
    contender: name,
    'one key, µs': round(us(alone, name), 0),
    'times as fast': round(us(alone, PEER) / us(alone, name)),
    'new keys, µs': round(us(anew, name), 0),
    'times as fast ': round(us(anew, PEER) / us(anew, name)),
    '8 in flight, cycles/s': round(perSecond(name), 0),
    'ratio': round(perSecond(name) / perSecond(PEER)),
    'main-thread µs': round(median(busy.get(name).map((r) => r.mainUs)), 0)
  }))
)

const kinds = ['file backend', 'FileLock', PEER]
const place = (kind, what) => join(dir, `${what}-${kind.replace(' ', '-')}`)

const HELD = 10_000
const rows = []
for (const kind of ['file backend', PEER]) {
  const holder = await startHolder({ kind, count: HELD, target: place(kind, 'held'), ttlMs: 600_000, refreshMs: 300_000 })
  rows.push({ contender: kind, 'RSS, bytes': round(holder.memory.rss, 0), 'of it JavaScript heap': round(holder.memory.heap, 0) })
  await holder.kill()
}
table(`Memory per held lock (${HELD} in one process)`, rows)

const DEAD = 50
const STALE_MS = 2000
const takers = {
  'file backend': (target) => {
    const own = createFileBackend(target)
    return async (i) => (await own.acquire({ key: `lock-${i}`, ttlMs })).ok
  },
  FileLock: (target) => (i) => new FileLock(join(target, `lock-${i}`)).acquire().then(() => true),
  [PEER]: (target) => {
    const path = (i) => join(target, `lock-${i}`)
    return (i) =>
      lockfile.lock(path(i), { realpath: false, stale: STALE_MS }).then(
        () => true,
        () => false
      )
  }
}
const takeovers = []
for (const kind of kinds) {
  const target = place(kind, 'dead')
  const holder = await startHolder({ kind, count: DEAD, target, ttlMs: kind === PEER ? STALE_MS : 600_000, refreshMs: 1000 })
  const take = takers[kind](target)
  await take(DEAD + 5000) // whatever the first one costs, on a key of nobody's
  await holder.kill()
  const died = performance.now()
  const times = []
  for (let i = 0; i < (kind === PEER ? 1 : DEAD); i++) {
    const begin = kind === PEER ? died : performance.now()
    while (!(await take(i))) await sleep(1)
    times.push(performance.now() - begin)
  }
  takeovers.push({ contender: kind, 'median, ms': round(median(times)), 'longest, ms': round(Math.max(...times)) })
}
table(`Taking over from a holder that was killed (${PEER}: from its death, with stale: ${STALE_MS}, the least it allows)`, takeovers)

const KEPT = 1000
const cpus = []
for (const [kind, intervalMs] of [
  ['FileLock', 250],
  [PEER, 1000]
]) {
  const holder = await startHolder({ kind, count: KEPT, target: place(kind, 'kept'), ttlMs: 10_000, refreshMs: intervalMs })
  const { cpuPercent, stillHeld } = await holder.cpu(5000)
  if (stillHeld !== KEPT) throw new Error(`${kind}: ${KEPT - stillHeld} of ${KEPT} files were lost`)
  await holder.kill()
  cpus.push({
    contender: kind,
    'heartbeat every, ms': intervalMs,
    '% of a core': round(cpuPercent),
    'µs per heartbeat': round((cpuPercent * 1e4) / (KEPT * (1000 / intervalMs)), 1)
  })
}
table(`Heartbeats of ${KEPT} held files`, cpus)
await backend.close()
process.exit(0)
