// A process that wants lease files: does what its parent says. Its configuration: { path, options }.
import { FileLock } from 'syncguard/file'
import { config, obey, say } from '../child.mjs'
import { block } from '../wait.mjs'

const lockOf = (path) => new FileLock(path, { ...config.options, onLeaseLost: (error) => say({ is: 'lost', code: error.code, held: file.held }) })
const file = lockOf(config.path)
const won = []

obey({
  async acquire() {
    try {
      say({ is: 'acquired', self: (await file.acquire()) === file })
    } catch ({ code, context }) {
      say({ is: 'refused', code, pid: context?.pid })
    }
  },
  /** Wants one after the other, as others do at the same time. */
  async race({ paths }) {
    const answers = []
    for (const path of paths) {
      try {
        won.push(await lockOf(path).acquire())
        answers.push({ won: true })
      } catch ({ code, context }) {
        answers.push({ won: false, code, pid: context?.pid })
      }
    }
    say({ is: 'raced', answers })
  },
  async leave() {
    const released = await Promise.all(won.map((each) => each.release()))
    say({ is: 'left', all: released.every(({ ok }) => ok) })
  },
  async release() {
    say({ is: 'released', ...(await file.release()), held: file.held })
  },
  async block({ ms }) {
    block(ms)
    say({ is: 'unblocked', held: file.held })
  }
})
