// Processes that hold locks, as the benches ask them.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

const FILE = new URL('holder.mjs', import.meta.url)
// A young generation that grows would be counted as memory of the locks.
const FLAGS = ['--expose-gc', '--max-semi-space-size=1']

/** Starts a process that holds `count` locks of a kind; answers once it has them. `memory`: bytes per lock. */
export async function startHolder(config) {
  const child = fork(FILE, [JSON.stringify(config)], { execArgv: FLAGS })
  const memory = await answer(child, config.kind)
  return {
    memory,
    /** CPU of the whole process in % of a core over `ms`, and how many locks it held at the end. */
    async cpu(ms) {
      child.send('cpu')
      await sleep(ms)
      const reply = answer(child, config.kind)
      child.send('cpu')
      return reply
    },
    /** The process dies without a chance to release anything. */
    async kill() {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    }
  }
}

/** The next message of a child; an error when it ends before. */
export function answer(child, name) {
  return new Promise((resolve, reject) => {
    const failed = (code) => reject(new Error(`${name}: a process ended with ${code}`))
    child.once('exit', failed)
    child.once('message', (message) => {
      child.off('exit', failed)
      resolve(message)
    })
  })
}
