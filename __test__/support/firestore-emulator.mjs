// The Firestore emulator of the Google Cloud CLI.
import { program } from './needs.mjs'
import { onFreePort, ServerProcess } from './server-process.mjs'

export class FirestoreEmulator extends ServerProcess {
  static async start() {
    const emulator = new FirestoreEmulator()
    await onFreePort((port) => {
      emulator.port = port
      const args = ['emulators', 'firestore', 'start', `--host-port=127.0.0.1:${port}`, '--quiet']
      // A process group of its own: gcloud starts a script that starts Java.
      return emulator.spawn(program('gcloud', 'firestore'), args, { detached: true }, () => emulator.#answers())
    })
    return emulator
  }

  /** The run's own emulator, as the driver of the tests started it; else one for this process. */
  static async shared() {
    const port = Number(process.env.SYNCGUARD_TEST_FIRESTORE)
    if (!port) return FirestoreEmulator.start()
    const emulator = new FirestoreEmulator()
    emulator.port = port
    return emulator
  }

  /** For FIRESTORE_EMULATOR_HOST. */
  get host() {
    return `127.0.0.1:${this.port}`
  }

  async #answers() {
    try {
      return (await fetch(`http://${this.host}/`)).ok
    } catch {
      return false
    }
  }

  /** The whole group: gcloud, the script, Java. */
  signal(name) {
    if (this.pid === undefined) return
    try {
      process.kill(-this.pid, name)
    } catch {
      // It has ended.
    }
  }

  /** The fields of a document in the words of its REST interface, or null. */
  async document(project, path) {
    const answer = await this.#rest(project, path)
    if (answer.status === 404) return null
    return (await answer.json()).fields
  }

  async write(project, path, fields) {
    const answer = await this.#rest(project, path, { method: 'PATCH', body: JSON.stringify({ fields }) })
    if (!answer.ok) throw new Error(`the emulator refused a document: ${await answer.text()}`)
  }

  async delete(project, path) {
    await this.#rest(project, path, { method: 'DELETE' })
  }

  #rest(project, path, options = {}) {
    const url = `http://${this.host}/v1/projects/${project}/databases/(default)/documents/${path}`
    return fetch(url, { ...options, headers: { Authorization: 'Bearer owner', 'Content-Type': 'application/json' } })
  }
}
