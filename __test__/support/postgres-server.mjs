// A real PostgreSQL server of a test's own.
import { execFileSync } from 'node:child_process'
import { appendFileSync, chownSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { program } from './needs.mjs'
import { onFreePort, ServerProcess, temporaryDirectory } from './server-process.mjs'

export class PostgresServer extends ServerProcess {
  #raw

  /** Options: `tls` (of makeCertificates), `settings` (lines for postgresql.conf). */
  static async start(options = {}) {
    const server = new PostgresServer()
    server.options = options
    server.dir = temporaryDirectory('postgres')
    server.#initialise()
    await onFreePort((port) => {
      server.port = port
      return server.#start()
    })
    return server
  }

  /** The run's own server, as the driver of the tests started it; else one for this process. */
  static async shared() {
    const port = Number(process.env.SYNCGUARD_TEST_POSTGRES)
    if (!port) return PostgresServer.start()
    const server = new PostgresServer()
    server.port = port
    return server
  }

  restart() {
    return this.#start()
  }

  #initialise() {
    this.data = join(this.dir, 'data')
    // The server refuses to run as root.
    this.user = process.getuid() === 0 ? unprivileged() : undefined
    if (this.user) chownSync(this.dir, this.user.uid, this.user.gid)
    const args = ['-D', this.data, '-U', 'postgres', '--auth=trust', '--no-sync', '-E', 'UTF8', '--locale=C']
    execFileSync(program('initdb', 'postgres'), args, { ...this.user, cwd: this.dir, stdio: ['ignore', 'ignore', 'pipe'] })
    const { settings = [], tls } = this.options
    const lines = ["listen_addresses = '127.0.0.1'", `unix_socket_directories = '${this.dir}'`, 'fsync = off', 'max_connections = 200', ...settings]
    if (tls) lines.push('ssl = on', `ssl_cert_file = '${tls.server.cert}'`, `ssl_key_file = '${tls.server.key}'`)
    appendFileSync(join(this.data, 'postgresql.conf'), `${lines.join('\n')}\n`)
  }

  async #start() {
    const args = ['-D', this.data, '-p', String(this.port)]
    await this.spawn(program('postgres', 'postgres'), args, { ...this.user, cwd: this.dir }, () => this.#answers())
  }

  async #answers() {
    const client = new pg.Client(this.url)
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query('select 1')
      return true
    } catch {
      return false
    } finally {
      await client.end().catch(() => {})
    }
  }

  get url() {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres?sslmode=disable`
  }

  /** The test's own access: answers the rows. */
  async query(text, values) {
    this.#raw ??= await this.#connect()
    return (await this.#raw.query(text, values)).rows
  }

  async #connect() {
    const client = new pg.Client(this.url)
    client.on('error', () => (this.#raw = undefined))
    await client.connect()
    return client
  }

  /** The postmaster's children have process groups of their own. */
  freeze() {
    this.#signalAll('SIGSTOP')
  }

  thaw() {
    this.#signalAll('SIGCONT')
  }

  endNow() {
    this.#signalAll('SIGKILL')
  }

  /** As a crash: recovery runs at the next start. */
  async crash() {
    await this.#disconnect()
    this.#signalAll('SIGKILL')
    await super.crash()
  }

  async stop() {
    await this.#disconnect()
    this.thaw()
    this.signal('SIGQUIT')
    await super.stop()
  }

  async #disconnect() {
    await this.#raw?.end().catch(() => {})
    this.#raw = undefined
  }

  #signalAll(name) {
    if (!this.isRunning) return
    for (const pid of [this.pid, ...childrenOf(this.pid)]) {
      try {
        process.kill(pid, name)
      } catch {
        // It has just ended.
      }
    }
  }
}

function childrenOf(parent) {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return (
          Number(
            readFileSync(`/proc/${pid}/stat`, 'utf8')
              .replace(/^.*\) /, '')
              .split(' ')[1]
          ) === parent
        )
      } catch {
        return false
      }
    })
}

/** The account that Debian made for the server, or nobody. */
function unprivileged() {
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  const [, , uid, gid] = accounts.find(([name]) => name === 'postgres') ?? accounts.find(([name]) => name === 'nobody')
  return { uid: Number(uid), gid: Number(gid) }
}
