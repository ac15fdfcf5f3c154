// Counts round trips to PostgreSQL in what clients send: a simple query ('Q') or a Sync ('S') is one each.
import { sleep } from './wait.mjs'

/**
 * What belongs to a connection or to the upkeep of the tables, and to no operation: LISTEN, a session's settings,
 * deleting what expired long ago, and preparing a named statement (a second time under one name is an error of the server).
 */
const UPKEEP = /^S$|\b(UN)?LISTEN\b|\bset_config\b|-- A small step: records that expired/i

/** Follows every connection through `proxy` from its first byte, since statements are prepared once and named later. */
export class PostgresRequests {
  #requests = []

  constructor(proxy) {
    const readers = new Map()
    proxy.onRequest((chunk, connection) => {
      if (!readers.has(connection)) readers.set(connection, new Reader())
      this.#requests.push(...readers.get(connection).read(chunk))
    })
  }

  /** Answers the texts of the requests that pass during `work`: "Q …" or the letters of the messages with the statements. */
  async during(work) {
    const before = this.#requests.length
    await work()
    await sleep(30) // What was sent and not waited for.
    return this.#requests.slice(before).filter((request) => !UPKEEP.test(request))
  }
}

/** Splits the frontend protocol into messages: a type byte, a length, a body; the very first has no type. */
class Reader {
  #buffer = Buffer.alloc(0)
  #starting = true
  #prepared = new Map()
  #letters = ''
  #statements = []

  read(chunk) {
    this.#buffer = Buffer.concat([this.#buffer, chunk])
    const requests = []
    for (;;) {
      const header = this.#starting ? 0 : 1
      if (this.#buffer.length < header + 4) return requests
      const size = header + this.#buffer.readInt32BE(header)
      if (this.#buffer.length < size) return requests
      const message = this.#buffer.subarray(0, size)
      this.#buffer = this.#buffer.subarray(size)
      if (!this.#starting) requests.push(...this.#request(String.fromCharCode(message[0]), message.subarray(5)))
      this.#starting = false
    }
  }

  #request(type, body) {
    if (type === 'Q') return [`Q ${body}`]
    const [first, second] = body.toString('latin1').split('\0', 2)
    if (type === 'P') {
      this.#prepared.set(first, second)
      if (first === '') this.#letters += type // Unnamed: prepared for this one request.
    }
    if (type === 'B') this.#statements.push(this.#prepared.get(second))
    if (type === 'B' || type === 'E') this.#letters += type
    if (type !== 'S') return []
    const request = [`${this.#letters}S`, ...this.#statements].join(' ')
    this.#letters = ''
    this.#statements = []
    return [request]
  }
}
