// 10,000 leases that one process keeps on a Redis: CPU, commands and memory. With a TTL of 30 s, the default, and with
// one of 6 s, which renews five times as often; redis-semaphore with the same interval, a third of the TTL.
import Redis from 'ioredis'
import { startHolder } from './support/holders.mjs'
import { round, table } from './support/measure.mjs'
import { commands, resetCommands } from './support/redis-commands.mjs'
import { startRedis } from './support/redis.mjs'

const COUNT = 10_000
const runs = [
  { name: 'syncguard', kind: 'kept Redis leases', ttlMs: 6000, ms: 12_000 },
  { name: 'redis-semaphore', kind: 'redis-semaphore', ttlMs: 6000, ms: 6000 },
  { name: 'syncguard', kind: 'kept Redis leases', ttlMs: 30_000, ms: 20_000 } // two renewals of each
]

const server = await startRedis()
const client = new Redis(server.url)
const rows = []
for (const { name, kind, ttlMs, ms } of runs) {
  await client.flushall()
  const holder = await startHolder({ kind, count: COUNT, target: server.url, ttlMs, refreshMs: ttlMs / 3 })
  await resetCommands(client)
  const { cpuPercent, stillHeld } = await holder.cpu(ms)
  const { scripts, all } = await commands(client)
  await holder.kill()
  rows.push({
    contender: name,
    'TTL, ms': ttlMs,
    '% of a core': round(cpuPercent),
    'µs per renewal': round((cpuPercent * 1e4) / ((COUNT * 3000) / ttlMs), 1),
    'scripts/s': round((scripts * 1000) / ms, 0),
    'commands/s, with those in scripts': round((all * 1000) / ms, 0),
    'RSS per lease, bytes': round(holder.memory.rss, 0),
    'of it JavaScript heap': round(holder.memory.heap, 0),
    'still held': stillHeld
  })
}
table(`${COUNT} kept leases in one process, Redis`, rows)
process.exit(0)
