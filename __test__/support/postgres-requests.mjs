// Counts round trips to PostgreSQL in what clients send: a simple query ('Q') or a Sync ('S') is one each.
import { sleep } from './wait.mjs'

/** Answers the texts of the requests that pass `proxy` during `work`: "Q …" or "S" with the statements before it. */
export async function countPostgresRequests(proxy, work) {
  const requests = []
  const readers = new Map()
  const end = proxy.onRequest((chunk, connection) => {
    if (!readers.has(connection)) readers.set(connection, new Reader(connection.toServer.passed === 0))
    requests.push(...readers.get(connection).read(chunk))
  })
  try {
    await work()
    await sleep(30) // What was sent and not waited for.
  } finally {
    end()
  }
  return requests.filter((request) => !/\b(UN)?LISTEN\b/i.test(request))
}

/** Splits the frontend protocol into messages: a type byte, a length, a body; the very first has no type. */
class Reader {
  #buffer = Buffer.alloc(0)
  #pending = ''
  #startup

  constructor(fromStart) {
    this.#startup = fromStart
  }

  read(chunk) {
    this.#buffer = Buffer.concat([this.#buffer, chunk])
    const requests = []
    for (;;) {
      const header = this.#startup ? 0 : 1
      if (this.#buffer.length < header + 4) return requests
      const size = header + this.#buffer.readInt32BE(header)
      if (this.#buffer.length < size) return requests
      const message = this.#buffer.subarray(0, size)
      this.#buffer = this.#buffer.subarray(size)
      if (!this.#startup) requests.push(...this.#request(String.fromCharCode(message[0]), message.subarray(5)))
      this.#startup = false
    }
  }

  #request(type, body) {
    if (type === 'Q') return [`Q ${body}`]
    if (type === 'P') this.#pending += ` ${body}`
    if (type !== 'S') return []
    const request = `S${this.#pending}`
    this.#pending = ''
    return [request]
  }
}
