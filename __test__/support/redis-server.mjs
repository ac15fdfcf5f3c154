// A real redis-server of a test's own.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Redis from 'ioredis'
import { program } from './needs.mjs'
import { isListening, onFreePort, ServerProcess, temporaryDirectory } from './server-process.mjs'

export class RedisServer extends ServerProcess {
  #raw
  #monitor
  #clients = new Set()

  /**
   * Options: `appendOnly` (survives a crash), `password`, `acl` (users: `alice on >pw ~* &* +@all`),
   * `tls` ({ ca, server } of makeCertificates, `clientAuth`), `unixSocket`, `args` (further ones for redis-server).
   */
  static async start(options = {}) {
    const server = new RedisServer()
    server.options = options
    server.dir = temporaryDirectory('redis')
    await onFreePort((port) => {
      server.port = port
      return server.#start()
    })
    return server
  }

  /** Starts again on the same port and directory, after stop() or crash(). */
  restart() {
    return this.#start()
  }

  async #start() {
    const { appendOnly, password, acl = [], tls, unixSocket, args = [] } = this.options
    this.socketPath = unixSocket ? join(this.dir, 'redis.sock') : undefined
    const settings = [
      ...(tls ? ['--port', '0', '--tls-port', String(this.port)] : ['--port', String(this.port)]),
      ...['--bind', '127.0.0.1', '--dir', this.dir, '--save', '', '--daemonize', 'no', '--protected-mode', 'no'],
      ...['--appendonly', appendOnly ? 'yes' : 'no', '--appendfsync', 'always'],
      ...(password ? ['--requirepass', password] : []),
      ...(unixSocket ? ['--unixsocket', this.socketPath, '--unixsocketperm', '777'] : []),
      ...(tls ? ['--tls-cert-file', tls.server.cert, '--tls-key-file', tls.server.key, '--tls-ca-cert-file', tls.ca.cert] : []),
      ...(tls ? ['--tls-auth-clients', tls.clientAuth ? 'yes' : 'no'] : []),
      ...acl.flatMap((line) => ['--user', ...line.split(/\s+/)]),
      ...args
    ]
    await this.spawn(program('redis-server', 'redis'), settings, {}, () => isListening(this.port))
    const raw = this.raw
    await raw.ping() // Answers only once the data of an earlier run is loaded.
  }

  get url() {
    const { tls, password } = this.options
    return `redis${tls ? 's' : ''}://${password ? `:${password}@` : ''}127.0.0.1:${this.port}`
  }

  /** A client of the test's own, to look at and change what the server holds. */
  get raw() {
    this.#raw ??= this.client()
    return this.#raw
  }

  client(options = {}) {
    const { tls, password } = this.options
    const client = new Redis({
      host: '127.0.0.1',
      port: this.port,
      password,
      tls: tls && { ca: readFileSync(tls.ca.cert), checkServerIdentity: () => undefined, ...(tls.clientAuth && clientPair(tls)) },
      retryStrategy: () => 20,
      maxRetriesPerRequest: null,
      ...options
    })
    client.on('error', () => {}) // Tests crash this server on purpose.
    this.#clients.add(client)
    return client
  }

  /**
   * The commands that clients sent while `work` ran, in order, without those that scripts ran on the server and
   * without the test's own: [["EVALSHA", …], …].
   */
  async commandsDuring(work) {
    if (this.#monitor === undefined) {
      const source = this.client()
      this.#monitor = await source.monitor()
      this.#clients.add(this.#monitor)
      source.disconnect()
      this.#monitor.setMaxListeners(0)
    }
    const seen = []
    const own = / addr=(\S+)/.exec(await this.raw.client('INFO'))[1]
    const marker = `end-${Math.random()}`
    const listen = (_time, args, source) => seen.push({ args, source })
    this.#monitor.on('monitor', listen)
    try {
      await work()
      await this.raw.echo(marker)
      while (!seen.some(({ args }) => args[1] === marker)) await new Promise((resolve) => setTimeout(resolve, 2))
    } finally {
      this.#monitor.off('monitor', listen)
    }
    return seen.filter(({ source }) => source !== 'lua' && source !== own).map(({ args }) => [args[0].toUpperCase(), ...args.slice(1)])
  }

  async stop() {
    this.#disconnect()
    await super.stop()
  }

  async crash() {
    this.#disconnect()
    await super.crash()
  }

  #disconnect() {
    for (const client of this.#clients) client.disconnect()
    this.#clients.clear()
    this.#raw = this.#monitor = undefined
  }
}

const clientPair = ({ client }) => ({ cert: readFileSync(client.cert), key: readFileSync(client.key) })
