// A relay between gRPC clients and a server, call by call, that counts them.
import { once } from 'node:events'
import { connect, createServer, constants } from 'node:http2'
import { sleep } from './wait.mjs'

export class GrpcRelay {
  #server = createServer()
  #sessions = new Set()
  #calls = []

  /** Passes everything on to `host` (host:port, without TLS). */
  static async start(host) {
    const relay = new GrpcRelay()
    relay.#server.on('session', (session) => relay.#serve(session, host))
    relay.#server.listen(0, '127.0.0.1')
    await once(relay.#server, 'listening')
    return relay
  }

  get port() {
    return this.#server.address().port
  }

  /** The names of the calls that begin during `work`. */
  async during(work) {
    const before = this.#calls.length
    await work()
    await sleep(30) // What was sent and not waited for.
    return this.#calls.slice(before)
  }

  async stop() {
    for (const session of this.#sessions) session.destroy()
    this.#server.close()
  }

  #serve(session, host) {
    const upstream = connect(`http://${host}`)
    for (const each of [session, upstream]) {
      this.#sessions.add(each)
      each.on('error', () => {})
      each.on('close', () => (this.#sessions.delete(each), session.destroy(), upstream.destroy()))
    }
    session.on('stream', (stream, headers) => {
      this.#calls.push(headers[':path'].split('/').at(-1))
      relay(stream, upstream.request(headers))
    })
  }
}

function relay(stream, call) {
  let trailers = {}
  for (const [each, other] of [[stream, call], [call, stream]]) {
    each.on('error', () => {})
    // What ends well ends by its last frame.
    each.on('close', () => (each.rstCode || each.aborted) && other.close(each.rstCode || constants.NGHTTP2_CANCEL))
  }
  stream.pipe(call)
  call.on('trailers', (received) => (trailers = received))
  stream.on('wantTrailers', () => stream.sendTrailers(trailers))
  call.on('response', (headers, flags) => {
    if (stream.destroyed) return
    const endStream = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0
    stream.respond(headers, { endStream, waitForTrailers: !endStream })
    if (!endStream) call.pipe(stream)
  })
}
