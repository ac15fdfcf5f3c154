// Waiting in tests: for a condition, never for a fixed time alone.
import { setTimeout as sleep } from 'node:timers/promises'

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

/** Answers what `work` answers and how long it took; an error is answered, too. */
export async function timed(work) {
  const start = performance.now()
  const [result] = await Promise.allSettled([work()])
  const ms = performance.now() - start
  return result.status === 'fulfilled' ? { ms, value: result.value } : { ms, error: result.reason }
}

/** Does something a few times, with pauses. */
export async function repeat(times, pauseMs, work) {
  for (let i = 0; i < times; i++) {
    await work(i)
    await sleep(pauseMs)
  }
}

/** A promise and the functions that settle it. */
export function deferred() {
  let resolve, reject
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]))
  return { promise, resolve, reject }
}
