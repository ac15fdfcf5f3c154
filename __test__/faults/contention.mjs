// Processes that fight for one key while something breaks, and the rules that must hold over what they saw.
import assert from 'node:assert/strict'
import { violations } from '../support/history.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { startProgram } from '../support/processes.mjs'
import { startRegister } from '../support/register.mjs'
import { sleep } from '../support/wait.mjs'

/** What a lock call may fail with while its store is broken: never a wrong argument, never an inner error. */
const HONEST = new Set(['AcquisitionTimeout', 'NetworkTimeout', 'ServiceUnavailable'])

/**
 * `inject(contention)` breaks things for a while; afterwards every process must get turns again without help.
 * Options: `store` ({ name, target, options }), `processes`, `waiters`, `calm` (nothing may be noticed: no failed call),
 * `losesState` (leases vanish, so that holders may overlap; fences must not).
 */
export async function contend({ store, inject, processes = 3, waiters = 4, calm = false, losesState = false, timeoutMs = 4000 }) {
  const key = uniqueKey('contended')
  const register = await startRegister()
  const contention = new Contention(key, { ...store, register: register.port }, { waiters, timeoutMs })
  try {
    await Promise.all(Array.from({ length: processes }, () => contention.add()))
    await sleep(300)
    await inject(contention)
    const healed = process.hrtime.bigint()
    await contention.everybodyGetsTurns(healed)
    await contention.end()
    const { accepted, rejected } = await register.report()
    check({ contention, accepted, rejected, calm, losesState })
    return contention
  } finally {
    contention.kill()
    await register.stop()
  }
}

function check({ contention, accepted, rejected, calm, losesState }) {
  const { turns, failures, others } = contention
  const found = violations(turns, accepted)
  assert.deepEqual(losesState ? found.filter((each) => !each.startsWith('I3')) : found, [])
  assert.deepEqual(others, [], 'nothing else was said')
  for (const { code, text, afterMs } of failures) {
    assert.ok(HONEST.has(code), `a call failed with ${code}: ${text}`)
    assert.ok(afterMs < contention.timeoutMs + 1500, `a call with timeoutMs ${contention.timeoutMs} settled after ${afterMs} ms`)
  }
  if (calm) assert.deepEqual(failures, [])
  if (!losesState) assert.deepEqual(rejected, [], 'the register refused a valid holder')
  assert.ok(turns.length > 10, `only ${turns.length} turns`)
}

class Contention {
  programs = []
  #gone = []

  constructor(key, config, { waiters, timeoutMs }) {
    this.key = key
    this.config = config
    this.waiters = waiters
    this.timeoutMs = timeoutMs
  }

  /** One more process that wants the key from now on. */
  async add() {
    const program = startProgram('locker', this.config)
    await program.hear('ready')
    const acquisition = { timeoutMs: this.timeoutMs, maxRetries: 100_000, retryDelayMs: 30 }
    program.say({ do: 'contend', key: this.key, waiters: this.waiters, forMs: 600_000, holdMs: 2, ttlMs: 2500, acquisition })
    this.programs.push(program)
    return program
  }

  /** kill -9 of the oldest process, holder or not; another one takes its place. */
  async killOne() {
    const program = this.programs.shift()
    this.#gone.push(program)
    await program.kill('SIGKILL')
    await this.add()
  }

  #said(is) {
    return [...this.#gone, ...this.programs].flatMap(({ lines }) => lines.filter((line) => is(line.is)))
  }

  get turns() {
    return this.#said((is) => is === 'turn')
  }

  get failures() {
    return this.#said((is) => is === 'failed')
  }

  get others() {
    return this.#said((is) => !['turn', 'failed', 'contended'].includes(is))
  }

  /** Every process gets in again, within the longest that anything can still hang. */
  async everybodyGetsTurns(since) {
    await Promise.all(
      this.programs.map((program) => program.hear(({ is, called }) => is === 'turn' && BigInt(called) > since, this.timeoutMs * 3).then((line) => program.lines.push(line)))
    )
  }

  /** No new turns; those that run are finished. */
  async end() {
    for (const program of this.programs) program.say({ do: 'stop' })
    await Promise.all(this.programs.map((program) => program.hear('contended', 30_000)))
  }

  kill() {
    for (const program of this.programs) program.kill('SIGKILL')
  }
}
