// npm run quickstart: three real processes want one lock. Shows who is inside, with which fence, and ends by itself.
import { fork } from 'node:child_process'
import { rmSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildAnyAddon, buildTypeScript, installPackages } from './prepare.mjs'
import { main } from './run.mjs'

const NAMES = ['Anna', 'Ben', 'Cleo']
const TURNS = 3
const WIDTH = 24
const colour = (code, text) => (process.stdout.isTTY ? `\x1b[${code}m${text}\x1b[0m` : text)

/** Files below a temporary directory, as in the embedded default; a Redis of our own where files are not to be had. */
async function makeStore() {
  const directory = mkdtempSync(join(tmpdir(), 'syncguard-quickstart-'))
  const removeDirectory = () => rmSync(directory, { recursive: true, force: true })
  process.env.SYNCGUARD_DIR = directory
  delete process.env.SYNCGUARD_URL
  try {
    const { createBackend } = await import('syncguard')
    await (await createBackend()).close()
    return { name: 'files: no server needed', end: removeDirectory }
  } catch {
    const { RedisServer } = await import('../__test__/support/redis-server.mjs')
    const redis = await RedisServer.start()
    process.env.SYNCGUARD_URL = redis.url
    return { name: 'a redis-server of its own', end: async () => (removeDirectory(), redis.stop()) }
  }
}

/** One row per change: a column for each process. */
class Screen {
  #start = performance.now()
  #states = NAMES.map(() => 'waiting')

  head(pids) {
    console.log(`\n   time  ${NAMES.map((name, i) => cell(`${name} (pid ${pids[i]})`)).join('')}`)
  }

  /** For the next row. */
  note(who, state) {
    this.#states[who] = state
  }

  show(who, state, note = '') {
    this.#states[who] = state
    const time = ((performance.now() - this.#start) / 1000).toFixed(1)
    const cells = this.#states.map((each) => {
      const text = cell(each)
      if (each.startsWith('INSIDE')) return colour('1;32', text)
      return colour(each.startsWith('KILLED') ? '1;31' : '2', text)
    })
    if (state.startsWith('KILLED')) this.#states[who] = 'dead'
    console.log(`${time.padStart(5)} s  ${cells.join('')}${note}`)
  }
}

const cell = (text) => text.padEnd(WIDTH)

async function fight(screen) {
  const contender = fileURLToPath(new URL('quickstart-contender.mjs', import.meta.url))
  const children = NAMES.map(() => fork(contender, [String(TURNS)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }))
  process.once('exit', () => {
    for (const child of children) child.kill('SIGKILL')
  })
  const turns = []
  let inside
  let killed = false
  const clashes = []

  await Promise.all(children.map((child) => new Promise((resolve) => child.once('message', resolve)))) // All are ready.
  screen.head(children.map(({ pid }) => pid))
  const finished = children.map(
    (child, who) =>
      new Promise((resolve, reject) => {
        child.on('message', ({ is, fence }) => {
          if (is === 'done') screen.note(who, 'done')
          if (is === 'inside') {
            if (inside !== undefined) clashes.push(fence)
            inside = who
            turns.push(fence)
            screen.show(who, `INSIDE  fence …${fence.slice(-6)}`)
            if (!killed && turns.length === 5) setTimeout(() => kill(child, who), 80)
          }
          if (is === 'leaving') {
            inside = undefined
            screen.note(who, 'waiting')
          }
        })
        child.once('exit', (code, signal) => (code === 0 || signal === 'SIGKILL' ? resolve() : reject(new Error(`${NAMES[who]} failed`))))
      })
  )
  function kill(child, who) {
    if (inside !== who) return
    killed = true
    child.kill('SIGKILL')
    inside = undefined
    screen.show(who, 'KILLED while inside', '<- kill -9: it could not release')
  }
  for (const child of children) child.send('go')
  await Promise.all(finished)
  return { turns, clashes, killed }
}

await main(async () => {
  installPackages()
  buildAnyAddon()
  buildTypeScript()
  const store = await makeStore()
  console.log(`\n${NAMES.length} processes want the same lock. Only one may be inside at a time. (Store: ${store.name}.)`)
  try {
    const { turns, clashes, killed } = await fight(new Screen())
    const rising = turns.every((fence, i) => i === 0 || fence > turns[i - 1])
    if (clashes.length > 0 || !rising) throw new Error(`two were inside at once, or a fence fell: ${turns.join(' ')}`)
    const survived = killed ? ', a killed holder blocked nobody' : ''
    console.log(`\nOK: ${turns.length} turns, never two inside at once, every fence higher than the one before${survived}.`)
  } finally {
    await store.end()
  }
})
