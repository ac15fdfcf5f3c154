// The Firestore emulator of the Google Cloud CLI.
import { fileBeside, findProgram, howToGet } from './needs.mjs'
import { onFreePort, ServerProcess } from './server-process.mjs'

const MAIN = 'com.google.cloud.datastore.emulator.firestore.CloudFirestore'

export class FirestoreEmulator extends ServerProcess {
  static async start() {
    const emulator = new FirestoreEmulator()
    await onFreePort((port) => {
      emulator.port = port
      return emulator.restart()
    })
    return emulator
  }

  /** On the same port, with nothing in it. */
  async restart() {
    // Java itself: gcloud would start a script that starts Java, and keep both.
    const [java, jar] = [findProgram('java'), fileBeside('firestore')]
    if (java === undefined || jar === undefined) throw howToGet('firestore', java === undefined ? 'java' : 'the emulator')
    const args = ['-Duser.language=en', '-cp', jar, MAIN, '--host=127.0.0.1', `--port=${this.port}`]
    await this.spawn(java, args, {}, () => this.#answers())
  }

  /** The run's own emulator, as the driver of the tests started it; else one for this process. */
  static async shared() {
    const port = Number(process.env.SYNCGUARD_TEST_FIRESTORE)
    if (!port) return FirestoreEmulator.start()
    const emulator = new FirestoreEmulator()
    emulator.port = port
    return emulator
  }

  async #answers() {
    return fetch(`http://${this.host}/`).then(
      (answer) => answer.ok,
      () => false
    )
  }

  /** For FIRESTORE_EMULATOR_HOST. */
  get host() {
    return `127.0.0.1:${this.port}`
  }

  /** The test's own access to a project's documents. Projects are made by use. */
  database(project) {
    return new Database(`http://${this.host}/v1/`, `projects/${project}/databases/(default)/documents`)
  }
}

/** Documents by the REST interface: fields are as in the vectors, `{ stringValue }` and the like. */
class Database {
  #server
  #documents

  constructor(server, documents) {
    this.#server = server
    this.#documents = documents
  }

  /** The fields of a document, or null. */
  async get(collection, id) {
    const [{ found }] = await this.#post('batchGet', { documents: [this.#name(collection, id)] })
    return found === undefined ? null : (found.fields ?? {})
  }

  async put(collection, id, fields) {
    await this.#post('commit', { writes: [{ update: { name: this.#name(collection, id), fields } }] })
  }

  async delete(collection, id) {
    await this.#post('commit', { writes: [{ delete: this.#name(collection, id) }] })
  }

  #name(collection, id) {
    return `${this.#documents}/${collection}/${id}`
  }

  // Names in the body: in a URL some characters don't arrive.
  async #post(method, message) {
    const headers = { authorization: 'Bearer owner', 'content-type': 'application/json' }
    const answer = await fetch(`${this.#server}${this.#documents}:${method}`, { method: 'POST', headers, body: JSON.stringify(message) })
    if (!answer.ok) throw new Error(`${method}: ${answer.status} ${await answer.text()}`)
    return answer.json()
  }
}
