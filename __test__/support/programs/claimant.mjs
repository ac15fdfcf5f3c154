// A process that wants a lease file or to be the only instance, and tells what came of it.
// Its configuration: { kind: "file" | "guard", path | dir, name, options, at? (ms since the epoch, when to begin) }.
import { FileLock } from 'syncguard/file'
import { guard } from 'syncguard/pid'
import { block, config, hear, say } from '../child.mjs'

const busy = setInterval(() => {}, 1 << 30)
const { kind, path, dir, name, options, at } = config
if (at !== undefined) block(Math.max(0, at - Date.now()))
let held
try {
  held = kind === 'file' ? await new FileLock(path, { ...options, onLeaseLost: ({ code }) => say({ is: 'lost', code }) }).acquire() : await guard(dir, name)
  say({ is: 'told', won: true, state: held.state })
} catch (error) {
  say({ is: 'told', won: false, code: error.code, pid: error.context?.pid })
}
hear(async ({ do: what, ms }) => {
  if (what === 'block') {
    block(ms)
    say({ is: 'blocked', held: held.held })
  }
  if (what === 'release') {
    const answer = kind === 'file' ? await held.release() : await held.cleanup()
    say({ is: 'released', answer })
    clearInterval(busy)
  }
  if (what === 'exit') process.exit(0)
})
