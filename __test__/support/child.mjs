// The child's side of processes.mjs.
import { createInterface } from 'node:readline'
import { writeSync } from 'node:fs'

export const config = JSON.parse(process.argv[2] ?? '{}')

/** Sends a line, at once: it arrives even when the process is killed by the next statement. */
export function say(value) {
  writeSync(1, `${JSON.stringify(value)}\n`)
}

/** Calls `handler(message)` for every line; does not keep the process alive. */
export function hear(handler) {
  createInterface({ input: process.stdin }).on('line', (line) => handler(JSON.parse(line)))
  process.stdin.unref?.()
}

/** Does what the parent says: `actions[do]`, and `end`, in one of the ways in which a process does. Stays until then. */
export function obey(actions) {
  const busy = setInterval(() => {}, 1 << 30)
  const end = ({ how }) => {
    clearInterval(busy)
    if (how === 'process.exit()') process.exit(0)
    if (how === 'an uncaught error')
      setImmediate(() => {
        throw new Error('on purpose')
      })
  }
  const all = { ...actions, end }
  hear((message) => all[message.do](message))
  say({ is: 'ready' })
}

/** CLOCK_MONOTONIC in nanoseconds: the same clock in every process of the machine. */
export const now = () => process.hrtime.bigint()
