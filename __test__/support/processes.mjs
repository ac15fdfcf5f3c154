// Child processes that talk in JSON lines, and that tests can stop, continue and kill.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { atExit } from './cleanup.mjs'

/**
 * Starts a Node program of `__test__/support/programs` (or any path) with `config` as its first argument in JSON.
 * The program sends with `say(value)` and hears with `hear(handler)` of `child.mjs`.
 */
export function startProgram(name, config = {}, { env, execArgv = [] } = {}) {
  const path = name.includes('/') ? name : fileURLToPath(new URL(`programs/${name}.mjs`, import.meta.url))
  return new Program([...execArgv, path, JSON.stringify(config)], env)
}

/** Starts `node -e` with ES module source. */
export function startSource(source, { env, execArgv = [] } = {}) {
  return new Program([...execArgv, '--input-type=module', '-e', source], env)
}

class Program {
  lines = []
  stderr = ''
  #waiting = new Set()

  constructor(args, env) {
    const root = fileURLToPath(new URL('../..', import.meta.url))
    this.child = spawn(process.execPath, args, { cwd: root, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
    this.child.stdin.on('error', () => {})
    this.child.stderr.on('data', (chunk) => (this.stderr += chunk))
    const forget = atExit(() => this.child.kill('SIGKILL'))
    this.exited = once(this.child, 'close').then(([code, signal]) => {
      forget()
      this.ended = { code, signal }
      this.#wake()
      return { code, signal, stderr: this.stderr }
    })
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      this.lines.push(parse(line))
      this.#wake()
    })
  }

  get pid() {
    return this.child.pid
  }

  /** The first line that `matches` (a function, or a value of its field `is`), and that no other call took. */
  async hear(matches, timeoutMs = 20_000) {
    const fits = typeof matches === 'function' ? matches : (line) => line?.is === matches
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const at = this.lines.findIndex(fits)
      if (at >= 0) return this.lines.splice(at, 1)[0]
      if (this.ended) throw new Error(`the program ended (${JSON.stringify(this.ended)}) without saying ${String(matches)}: ${this.stderr}`)
      if (performance.now() > deadline) throw new Error(`the program did not say ${String(matches)} within ${timeoutMs} ms: ${this.stderr}`)
      await this.#next(deadline)
    }
  }

  say(value) {
    this.child.stdin.write(`${JSON.stringify(value)}\n`)
  }

  pause() {
    this.child.kill('SIGSTOP')
  }

  continue() {
    this.child.kill('SIGCONT')
  }

  async kill(signal = 'SIGKILL') {
    this.child.kill(signal)
    return this.exited
  }

  /** Ends the program's input, on which well-behaved ones end, and answers how it ended. */
  async finish() {
    this.child.stdin.end()
    return this.exited
  }

  #next(deadline) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, Math.max(1, deadline - performance.now()))
      this.#waiting.add(done)
    })
  }

  #wake() {
    for (const done of [...this.#waiting]) done()
  }
}

function parse(line) {
  try {
    return JSON.parse(line)
  } catch {
    return { text: line }
  }
}
