// What all servers of the tests have in common: a free port, a temporary directory, a process that ends with ours.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atExit } from './cleanup.mjs'
import { sleep } from './wait.mjs'

/** A port that was free a moment ago. Somebody may take it: starting a server is retried. */
export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  return port
}

/** A directory that vanishes with this process. */
export function temporaryDirectory(label) {
  const dir = mkdtempSync(join(tmpdir(), `syncguard-${label}-`))
  chmodSync(dir, 0o755)
  atExit(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A server's process: started, stopped, killed, frozen. Subclasses say what to start and when it is ready. */
export class ServerProcess {
  #child
  #forget
  #output = ''

  /** Spawns and waits until `isReady()` answers true. Throws with the server's own output when it ends before. */
  async spawn(command, args, options, isReady) {
    this.#output = ''
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
    this.#child = child
    this.#forget = atExit(() => this.endNow())
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => (this.#output = (this.#output + chunk).slice(-4000)))
      stream.unref?.()
    }
    child.unref()
    let failure
    child.once('error', (error) => (failure = error))
    const deadline = performance.now() + 30_000
    while (!(await isReady())) {
      if (failure !== undefined || child.exitCode !== null || child.signalCode !== null || performance.now() > deadline) {
        this.endNow()
        throw new Error(`${command} did not start: ${failure ?? this.#output}`)
      }
      await sleep(10)
    }
  }

  get pid() {
    return this.#child?.pid
  }

  get isRunning() {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  signal(name) {
    if (this.isRunning) this.#child.kill(name)
  }

  /** SIGSTOP: connections stay open, nothing is answered. */
  freeze() {
    this.signal('SIGSTOP')
  }

  thaw() {
    this.signal('SIGCONT')
  }

  /** kill -9, as a crash. Waits until the process is gone. */
  async crash() {
    await this.#end('SIGKILL')
  }

  async stop() {
    this.thaw()
    await this.#end('SIGTERM')
  }

  /** For the end of our process, when nothing can be awaited any more. */
  endNow() {
    this.signal('SIGKILL')
  }

  async #end(signal) {
    if (this.isRunning) {
      const gone = once(this.#child, 'exit')
      this.#child.ref()
      this.signal(signal)
      const late = setTimeout(() => this.signal('SIGKILL'), 5000)
      await gone
      clearTimeout(late)
    }
    this.#forget?.()
  }
}

/** Whether something listens there. */
export function isListening(port, host = '127.0.0.1') {
  return new Promise((resolve) => {
    const socket = connect(port, host)
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** Starts something on a free port, once more when somebody took the port. */
export async function onFreePort(start, attempts = 3) {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort()
    try {
      return await start(port)
    } catch (error) {
      if (attempt === attempts) throw error
    }
  }
}
