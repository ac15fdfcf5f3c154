// acquire + release cycles on PostgreSQL: syncguard against a hand-written pair of prepared statements (the floor) and
// session-level pg_try_advisory_lock, both on `pg` with as many connections as syncguard has: one at a time, and with 8
// and 64 in flight on distinct keys. Once with the server as it is shipped, once with fsync off, where the disk's share
// of a commit is gone.
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { createPostgresBackend, setupSchema } from 'syncguard/postgres'
import { PostgresServer } from '../__test__/support/postgres-server.mjs'
import { inTurns, latency, median, round, table, throughput } from './support/measure.mjs'

const CONNECTIONS = 4
const TTL_MS = 30_000
const FLOOR = 'hand-written pair'

async function contest(fsync) {
  const server = await PostgresServer.start({ settings: [`fsync = ${fsync}`] })
  await setupSchema(server.url)
  await server.query('create table hand (key text primary key, id text not null, expires bigint not null)')
  const backend = createPostgresBackend(server.url, { poolSize: CONNECTIONS })
  const pool = new pg.Pool({ connectionString: server.url, max: CONNECTIONS })
  const sessions = new pg.Pool({ connectionString: server.url, max: CONNECTIONS })

  const take = {
    name: 'take',
    text: `insert into hand as h (key, id, expires)
      values ($1, $2, (extract(epoch from clock_timestamp()) * 1000)::bigint + $3::bigint)
      on conflict (key) do update set id = excluded.id, expires = excluded.expires
      where h.expires < (extract(epoch from clock_timestamp()) * 1000)::bigint returning id`
  }
  const give = { name: 'give', text: 'delete from hand where key = $1 and id = $2 returning key' }
  const lock = { name: 'lock', text: 'select pg_try_advisory_lock(hashtext($1)) as taken' }
  const unlock = { name: 'unlock', text: 'select pg_advisory_unlock(hashtext($1)) as given' }

  const contenders = [
    {
      name: FLOOR,
      cycle: async (lane) => {
        const id = randomBytes(16).toString('base64url')
        const taken = await pool.query({ ...take, values: [`hand:${lane}`, id, TTL_MS] })
        const given = await pool.query({ ...give, values: [`hand:${lane}`, id] })
        if (taken.rowCount + given.rowCount !== 2) throw new Error('the hand-written pair lost its lock')
      }
    },
    {
      name: 'syncguard',
      cycle: async (lane) => {
        const held = await backend.acquire({ key: `lane:${lane}`, ttlMs: TTL_MS })
        const released = await held.release()
        if (!held.ok || !released.ok) throw new Error('syncguard lost its lock')
      }
    },
    {
      name: 'pg_try_advisory_lock',
      cycle: async (lane) => {
        const session = await sessions.connect() // The lock is the connection's.
        await session.query({ ...lock, values: [`session:${lane}`] })
        await session.query({ ...unlock, values: [`session:${lane}`] })
        session.release()
      }
    }
  ]

  const alone = await inTurns(contenders, 5, ({ cycle }) => latency(cycle, { count: 400, ms: 1500 }))
  const busy = new Map()
  for (const inFlight of [8, 64]) {
    busy.set(inFlight, await inTurns(contenders, 5, ({ cycle }) => throughput(cycle, { inFlight, ms: 1000 })))
  }
  const perSecond = (inFlight, name) =>
    median(
      busy
        .get(inFlight)
        .get(name)
        .map((result) => result.perSecond)
    )
  table(
    `PostgreSQL with fsync ${fsync}: cycles per second (larger is better) and main-thread CPU`,
    contenders.map(({ name }) => ({
      contender: name,
      'alone, µs': round(median(alone.get(name)), 0),
      'times the floor': round(median(alone.get(FLOOR)) / median(alone.get(name))),
      '8 in flight': round(perSecond(8, name), 0),
      'times the floor ': round(perSecond(8, name) / perSecond(8, FLOOR)),
      '64 in flight': round(perSecond(64, name), 0),
      'times the floor  ': round(perSecond(64, name) / perSecond(64, FLOOR)),
      'main-thread µs': round(
        median(
          busy
            .get(64)
            .get(name)
            .map((result) => result.mainUs)
        ),
        1
      )
    }))
  )
  await backend.close()
  await pool.end()
  await sessions.end()
  await server.stop()
}

for (const fsync of ['on', 'off']) await contest(fsync)
process.exit(0)
