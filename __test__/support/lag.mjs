// The machine's own delay, measured beside a test: a bound on time allows for exactly that, and for nothing else.

const EVERY_MS = 5
/** What a timer is late on a machine that does nothing. */
const USUAL_MS = 2

/** Watches how late timers of this process are and, where there is a `probe`, how long a server takes for something else. */
export class Lag {
  /** All delays since the start, together: an operation waits for the processor more than once. */
  totalMs = 0
  /** The longest one. */
  worstMs = 0
  #due
  #timer
  #stopped = false
  #probing

  constructor(probe) {
    this.#next()
    this.#probing = probe && this.#ask(probe)
  }

  #next() {
    this.#due = performance.now() + EVERY_MS
    this.#timer = setTimeout(() => (this.#note(performance.now() - this.#due), this.#next()), EVERY_MS)
    this.#timer.unref()
  }

  #note(late) {
    const ms = Math.max(0, late - USUAL_MS)
    this.totalMs += ms
    this.worstMs = Math.max(this.worstMs, ms)
  }

  async #ask(probe) {
    while (!this.#stopped) {
      const start = performance.now()
      await probe()
      this.worstMs = Math.max(this.worstMs, performance.now() - start)
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
    }
  }

  async stop() {
    clearTimeout(this.#timer)
    this.#note(performance.now() - this.#due)
    this.#stopped = true
    await this.#probing
    return this
  }
}

/**
 * For a test that can bear the machine, or its server, standing still for `bearsMs` and no longer: what failed while it
 * stood still for longer is tried again.
 */
export async function onSteadyMachine({ bearsMs, probe, attempts = 8 }, work) {
  for (let attempt = 1; ; attempt++) {
    const lag = new Lag(probe)
    try {
      return await work()
    } catch (error) {
      const { worstMs } = await lag.stop()
      if (worstMs <= bearsMs || attempt === attempts) {
        error.message += ` (the machine stood still for ${Math.round(worstMs)} ms at most, attempt ${attempt})`
        throw error
      }
    } finally {
      await lag.stop()
    }
  }
}
