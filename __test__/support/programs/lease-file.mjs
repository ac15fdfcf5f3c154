// A process that wants lease files: does what its parent says. Its configuration: { path, options }.
import { FileLock } from 'syncguard/file'
import { block, config, hear, say } from '../child.mjs'

const file = new FileLock(config.path, {
  ...config.options,
  onLeaseLost: (error) => say({ is: 'lost', code: error.code, held: file.held })
})
const busy = setInterval(() => {}, 1 << 30)

const actions = {
  async acquire() {
    try {
      say({ is: 'acquired', self: (await file.acquire()) === file })
    } catch ({ code, context }) {
      say({ is: 'refused', code, pid: context?.pid })
    }
  },
  async release() {
    say({ is: 'released', ...(await file.release()), held: file.held })
  },
  async block({ ms }) {
    block(ms)
    say({ is: 'unblocked', held: file.held })
  },
  /** Ends in one of the ways in which a process does. */
  async end({ how }) {
    clearInterval(busy)
    if (how === 'process.exit()') process.exit(0)
    if (how === 'an uncaught error') setImmediate(() => { throw new Error('on purpose') })
  }
}

hear((message) => actions[message.do](message))
say({ is: 'ready' })
