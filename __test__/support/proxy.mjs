// A TCP relay that misbehaves on demand, each direction for itself: the faults of a network on one machine.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { atExit } from './cleanup.mjs'
import { sleep } from './wait.mjs'

/** One direction of a connection. Faults apply to what arrives from now on; `pass()` takes them all back. */
class Direction {
  passed = 0
  #queue = []
  #pumping = false
  #faults = {}
  #ended = false

  constructor(from, to, onData) {
    this.from = from
    this.to = to
    from.on('data', (chunk) => {
      onData(chunk)
      this.#queue.push(chunk)
      this.#pump()
    })
    from.on('end', () => {
      this.#ended = true
      this.#pump()
    })
  }

  /** Holds every chunk back for `ms`. */
  delay(ms) {
    this.#faults.delayMs = ms
  }

  /** Keeps what arrives, until thaw(): a half-open connection. */
  freeze() {
    this.#faults.frozen = true
  }

  thaw() {
    this.#faults.frozen = false
    this.#pump()
  }

  /** Takes what arrives and passes nothing on. */
  drop() {
    this.#faults.dropping = true
  }

  /** One byte per packet. */
  trickle() {
    this.#faults.trickling = true
  }

  /** Passes `bytes` more, then resets the connection. */
  cutAfter(bytes) {
    this.#faults.left = bytes
  }

  pass() {
    this.#faults = {}
    this.#pump()
  }

  async #pump() {
    if (this.#pumping) return
    this.#pumping = true
    while (this.#queue.length > 0 && !this.#faults.frozen) {
      const chunk = this.#queue.shift()
      if (this.#faults.delayMs) await sleep(this.#faults.delayMs)
      await this.#forward(chunk)
    }
    this.#pumping = false
    if (this.#ended && this.#queue.length === 0) this.to.end()
  }

  async #forward(chunk) {
    if (this.#faults.dropping) return
    const { left = Infinity } = this.#faults
    const passed = chunk.subarray(0, left)
    if (this.#faults.trickling) {
      for (const byte of passed) {
        this.to.write(Buffer.of(byte))
        await new Promise(setImmediate)
      }
    } else if (passed.length > 0) {
      this.to.write(passed)
    }
    this.passed += passed.length
    if (left === Infinity) return
    this.#faults.left = left - passed.length
    if (chunk.length >= left) this.to.end(() => (reset(this.to), reset(this.from)))
  }
}

/** RST, unless the socket is being shut down: libuv refuses that, and Node 20 then never ends (its handle is neither open nor closed). */
function reset(socket) {
  if (socket.writableEnded || socket.connecting) socket.destroy()
  else socket.resetAndDestroy()
}

class Connection {
  constructor(client, server, onRequest) {
    this.client = client
    this.server = server
    client.setNoDelay(true)
    server.setNoDelay(true)
    this.toServer = new Direction(client, server, (chunk) => onRequest(this, chunk))
    this.toClient = new Direction(server, client, () => {})
    for (const [one, other] of [
      [client, server],
      [server, client]
    ]) {
      one.on('error', () => reset(other))
    }
  }

  get isOpen() {
    return !this.client.destroyed
  }

  freeze() {
    this.toServer.freeze()
    this.toClient.freeze()
  }

  thaw() {
    this.toServer.thaw()
    this.toClient.thaw()
  }

  /** RST to both ends. */
  reset() {
    reset(this.client)
    reset(this.server)
  }
}

/** Relays to a server. `connections` are the open ones, oldest first; `accepted` counts all that ever came. */
export class FaultProxy {
  connections = []
  accepted = 0
  #server
  #frozen = false
  #refusing = false
  #script
  #onText
  #observers = new Set()

  /** `target`: { port, host? } or { path }. */
  static async start(target) {
    const proxy = new FaultProxy()
    proxy.#server = createServer({ allowHalfOpen: true }, (client) => proxy.#accept(client, target)).listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    proxy.#server.unref()
    atExit(() => proxy.stop())
    return proxy
  }

  get port() {
    return this.#server.address().port
  }

  /** `script(connection, number)` runs for each new connection before a byte is passed; number counts from 1. */
  onConnection(script) {
    this.#script = script
  }

  /** `observe(chunk, connection)` sees what clients send. Answers a function that ends it. */
  onRequest(observe) {
    this.#observers.add(observe)
    return () => this.#observers.delete(observe)
  }

  /** Nothing passes in either direction, on new connections too. */
  freeze() {
    this.#frozen = true
    for (const connection of this.connections) connection.freeze()
  }

  thaw() {
    this.#frozen = false
    for (const connection of this.connections) connection.thaw()
  }

  /** New connections are reset at once. */
  refuse(refusing = true) {
    this.#refusing = refusing
  }

  reset() {
    for (const connection of [...this.connections]) connection.reset()
  }

  /** The next request that contains `text` is passed on; what comes back waits for `connection.toClient.thaw()`. Answers the connection. */
  holdReplyTo(text) {
    return new Promise((resolve) => {
      this.#onText = {
        text,
        act: (connection) => {
          connection.toClient.freeze()
          resolve(connection)
        }
      }
    })
  }

  /**
   * The next request that contains `text` is passed on; nothing of what the server then says on that connection comes
   * back. Resolves, when the server has had time to act, with the connection, which is then reset unless `keep`.
   */
  swallowReplyTo(text, { keep = false } = {}) {
    return new Promise((resolve) => {
      const act = async (connection) => {
        connection.toClient.drop()
        await once(connection.server, 'data')
        if (!keep) connection.reset()
        resolve(connection)
      }
      this.#onText = { text, act }
    })
  }

  stop() {
    this.#server.close()
    this.reset()
  }

  #accept(client, target) {
    client.on('error', () => {})
    if (this.#refusing) return reset(client)
    const connection = new Connection(client, connect({ host: '127.0.0.1', port: target.port, path: target.path, allowHalfOpen: true }), (from, chunk) =>
      this.#request(from, chunk)
    )
    this.connections.push(connection)
    client.on('close', () => (this.connections = this.connections.filter((each) => each !== connection)))
    if (this.#frozen) connection.freeze()
    this.accepted++
    this.#script?.(connection, this.accepted)
  }

  #request(connection, chunk) {
    for (const observe of this.#observers) observe(chunk, connection)
    const { text, act } = this.#onText ?? {}
    if (text === undefined || !chunk.includes(text)) return
    this.#onText = undefined
    act(connection)
  }
}
