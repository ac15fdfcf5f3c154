// Waiting in tests: for a condition, never for a fixed time alone.
import { setTimeout as sleep } from 'node:timers/promises'
import { Lag } from './lag.mjs'

export { sleep }

/** Polls until `condition` answers something true, and answers that. Throws after `timeoutMs`. */
export async function until(condition, { timeoutMs = 5000, everyMs = 5, what = 'the condition' } = {}) {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const answer = await condition()
    if (answer) return answer
    if (performance.now() > deadline) throw new Error(`${what} did not become true within ${timeoutMs} ms`)
    await sleep(everyMs)
  }
}

/**
 * Answers what `work` answers and how long it took, and how much of that may be the machine's own delay: what an upper
 * bound has to allow for. An error is answered, too.
 */
export async function timed(work) {
  const lag = new Lag()
  const start = performance.now()
  const [result] = await Promise.allSettled([work()])
  const ms = performance.now() - start
  const lagMs = (await lag.stop()).totalMs
  return result.status === 'fulfilled' ? { ms, lagMs, value: result.value } : { ms, lagMs, error: result.reason }
}

/** Does what a test needs first, on a store that may still be waking up: again, while it isn't answered in time. */
export async function settingUp(work, attempts = 10) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (error.code !== 'NetworkTimeout' || attempt === attempts) throw error
    }
  }
}

/** Does something a few times, with pauses. */
export async function repeat(times, pauseMs, work) {
  for (let i = 0; i < times; i++) {
    await work(i)
    await sleep(pauseMs)
  }
}

/** Blocks the thread, event loop and all, and leaves the processor to others. */
export function block(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/** A promise and the functions that settle it. */
export function deferred() {
  let resolve, reject
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]))
  return { promise, resolve, reject }
}
