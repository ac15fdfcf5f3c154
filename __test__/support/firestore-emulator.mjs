// The Firestore emulator of the Google Cloud CLI.
import { program } from './needs.mjs'
import { isListening, onFreePort, ServerProcess } from './server-process.mjs'

export class FirestoreEmulator extends ServerProcess {
  static async start() {
    const emulator = new FirestoreEmulator()
    await onFreePort((port) => {
      emulator.port = port
      const args = ['emulators', 'firestore', 'start', `--host-port=127.0.0.1:${port}`, '--quiet']
      // A process group of its own: gcloud starts a script that starts Java.
      return emulator.spawn(program('gcloud', 'firestore'), args, { detached: true }, () => isListening(port))
    })
    return emulator
  }

  /** For FIRESTORE_EMULATOR_HOST. */
  get host() {
    return `127.0.0.1:${this.port}`
  }

  get url() {
    return `firestore://syncguard-test`
  }

  signal(name) {
    if (this.pid === undefined) return
    try {
      process.kill(-this.pid, name)
    } catch {
      // It has ended.
    }
  }

  /** What the emulator holds is told by its REST interface. */
  async document(path) {
    const answer = await fetch(`http://${this.host}/v1/projects/syncguard-test/databases/(default)/documents/${path}`)
    return answer.status === 404 ? null : (await answer.json()).fields
  }

  /** Deletes every document. */
  async clear() {
    await fetch(`http://${this.host}/emulator/v1/projects/syncguard-test/databases/(default)/documents`, { method: 'DELETE' })
  }
}
