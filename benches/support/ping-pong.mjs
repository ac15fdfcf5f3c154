// The floors of the hand-over bench: how long a bare signal takes from one process to another.
import { fork } from 'node:child_process'
import { mkdirSync, watch } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import Redis from 'ioredis'
import pg from 'pg'
import { answer } from './holders.mjs'

/** What each store's processes can signal with: `send(i)`, and `received(i)` which settles once the other side has sent. */
const channels = {
  async redis(url, from, to) {
    const [hears, says] = [new Redis(url), new Redis(url)]
    const listeners = new Map()
    hears.on('message', (_, text) => listeners.get(text)?.())
    await hears.subscribe(from)
    return { send: (i) => says.publish(to, String(i)), listeners }
  },
  async postgres(url, from, to) {
    const [hears, says] = [new pg.Client(url), new pg.Client(url)]
    const listeners = new Map()
    await Promise.all([hears.connect(), says.connect()])
    hears.on('notification', ({ payload }) => listeners.get(payload)?.())
    await hears.query(`listen ${from}`)
    return { send: (i) => says.query('select pg_notify($1, $2)', [to, String(i)]), listeners }
  },
  async files(dir, from, to) {
    for (const name of [from, to]) mkdirSync(join(dir, name), { recursive: true })
    const listeners = new Map()
    watch(join(dir, from), (_, name) => listeners.get(name)?.()) // inotify on Linux
    return { send: (i) => mkdirSync(join(dir, to, String(i))), listeners }
  }
}

/** One way of `count` ping-pongs with another process, in ms. */
export async function pingPong(store, target, count) {
  const child = fork(fileURLToPath(import.meta.url), [store, target, String(count)])
  await answer(child, 'ping-pong')
  const { send, listeners } = await channels[store](target, 'pong', 'ping')
  const times = []
  for (let i = 0; i < count; i++) {
    const answered = new Promise((resolve) => listeners.set(String(i), resolve))
    const begin = performance.now()
    send(i)
    await answered
    times.push((performance.now() - begin) / 2)
  }
  child.kill()
  return times
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [store, target, count] = process.argv.slice(2)
  const { send, listeners } = await channels[store](target, 'ping', 'pong')
  for (let i = 0; i < Number(count); i++) listeners.set(String(i), () => send(i))
  process.send('ready')
}
