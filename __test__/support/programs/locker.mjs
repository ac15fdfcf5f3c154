// A process under test: does with the public package what its parent says, and tells what came of it.
// Its configuration: { name, target, options, register? (port) }.
import { lock } from 'syncguard'
import { config, hear, now, say } from '../child.mjs'
import { openRegister } from '../register.mjs'
import { block } from '../wait.mjs'

const module = await import(`syncguard/${config.name}`)
const create = Object.entries(module).find(([name]) => /^create\w+Backend$/.test(name))[1]
const backend = create(config.target, { ...config.options, onReleaseError: () => {} })
const register = config.register === undefined ? undefined : await openRegister(config.register)
const busy = setInterval(() => {}, 1 << 30)
let held
let stopped = false

const state = () => ({ isValid: held.isValid(), aborted: held.signal.aborted, remainingMs: held.remainingMs() })
const codeOf = (error) => error.code ?? String(error)

/** One turn of a waiter: a line of the history. */
async function turn(waiter, { key, holdMs = 1, ttlMs = 5000, acquisition, autoExtend }) {
  const called = now()
  let line
  try {
    await lock(
      backend,
      async (handle) => {
        const returned = now()
        const deadline = returned + BigInt(Math.floor(handle.remainingMs() * 1e6))
        line = { key, process: process.pid, waiter, lockId: handle.lockId, fence: handle.fence, called, returned, deadline }
        if (register && handle.isValid()) line.accepted = await register.write(key, handle.fence)
        await new Promise((resolve) => setTimeout(resolve, holdMs))
        line.released = now()
      },
      { key, ttlMs, acquisition, autoExtend, onLeaseLost: () => {} }
    )
  } catch (error) {
    say({ is: 'failed', key, waiter, code: codeOf(error), text: error.message, outcome: error.context?.outcome, afterMs: Number(now() - called) / 1e6 })
  }
  if (line) say({ is: 'turn', ...line, ...texts(line) })
}

const texts = ({ called, returned, deadline, released }) => Object.fromEntries(Object.entries({ called, returned, deadline, released }).map(([name, ns]) => [name, ns?.toString()]))

async function contend(message) {
  const { waiters = 1, turns = Infinity, forMs = Infinity } = message
  const end = performance.now() + forMs
  const one = async (waiter) => {
    for (let i = 0; i < turns && performance.now() < end && !stopped; i++) await turn(waiter, message)
  }
  await Promise.all(Array.from({ length: waiters }, (_, waiter) => one(waiter)))
  say({ is: 'contended' })
}

const actions = {
  contend,
  async hold({ key, ttlMs = 30_000, autoExtend }) {
    held = await backend.acquire({ key, ttlMs, autoExtend, onLeaseLost: (error) => say({ is: 'lost', code: error.code }) })
    held.signal.addEventListener('abort', () => say({ is: 'aborted', code: held.signal.reason.code, at: performance.now() }))
    say({ is: 'held', ok: held.ok, lockId: held.lockId, fence: held.fence, expiresAtMs: held.expiresAtMs })
  },
  async stop() {
    stopped = true
  },
  async release() {
    say({ is: 'released', ...(await held.release()) })
  },
  async extend({ ttlMs }) {
    say({ is: 'extended', ...(await held.extend(ttlMs)) })
  },
  async state() {
    say({ is: 'state', ...state() })
  },
  /** Blocks the event loop; tells what holds at the first instruction after, and one turn of the loop later. */
  async block({ ms }) {
    block(ms)
    const isValid = held.isValid()
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    say({ is: 'unblocked', isValid, later: state() })
  },
  /** Looks at the handle all the time: finds the first instruction after a pause. */
  async watch({ gapMs }) {
    let last = performance.now()
    for (;;) {
      const at = performance.now()
      const isValid = held.isValid()
      if (at - last > gapMs) {
        await new Promise(setImmediate)
        await new Promise(setImmediate)
        return say({ is: 'paused', gapMs: at - last, isValid, aborted: held.signal.aborted })
      }
      last = at
      await new Promise(setImmediate)
    }
  },
  async end() {
    clearInterval(busy)
    register?.close()
    await backend.close()
  }
}

process.on('unhandledRejection', (error) => say({ is: 'unhandled', error: String(error?.stack ?? error) }))
hear((message) => actions[message.do](message).catch((error) => say({ is: 'error', code: codeOf(error), text: String(error) })))
say({ is: 'ready' })
