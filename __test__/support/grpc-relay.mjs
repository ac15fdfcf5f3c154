// Passes gRPC on without TLS and notes the path of each request, since the emulator does not tell what it is asked.
import { once } from 'node:events'
import { connect, createServer } from 'node:http2'
import { atExit } from './cleanup.mjs'
import { sleep } from './wait.mjs'

export class GrpcRelay {
  #server
  #sessions = new Set()
  #requests = []

  /** `target`: { port }. */
  static async start({ port }) {
    const relay = new GrpcRelay()
    relay.#server = createServer()
    relay.#server.on('session', (session) => relay.#accept(session, port))
    relay.#server.listen(0, '127.0.0.1')
    await once(relay.#server, 'listening')
    relay.#server.unref()
    atExit(() => relay.stop())
    return relay
  }

  get port() {
    return this.#server.address().port
  }

  /** The paths of the requests that pass during `work`, without the streams on which nothing is asked. */
  async during(work) {
    const before = this.#requests.length
    await work()
    await sleep(30) // What was sent and not waited for.
    return this.#requests.slice(before).filter((path) => !path.endsWith('/Listen'))
  }

  stop() {
    this.#server.close()
    for (const session of this.#sessions) session.destroy()
  }

  #accept(session, port) {
    const upstream = connect(`http://127.0.0.1:${port}`)
    const both = [session, upstream]
    for (const one of both) {
      this.#sessions.add(one)
      one.on('error', () => {})
      one.on('close', () => {
        this.#sessions.delete(one)
        for (const other of both) other.destroy()
      })
      one.unref()
    }
    session.on('stream', (stream, headers) => {
      this.#requests.push(headers[':path'])
      pass(stream, upstream.request(headers))
    })
  }
}

function pass(stream, request) {
  let trailers = {}
  for (const [one, other] of [
    [stream, request],
    [request, stream]
  ]) {
    one.on('error', () => {})
    one.on('aborted', () => other.close())
  }
  request.on('response', (headers, flags) => stream.respond(headers, flags & 1 ? { endStream: true } : { waitForTrailers: true }))
  request.on('trailers', (headers) => (trailers = headers))
  stream.on('wantTrailers', () => stream.sendTrailers(trailers))
  stream.pipe(request)
  request.pipe(stream)
}
