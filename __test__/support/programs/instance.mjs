// An application that must run once: does what its parent says. Its configuration: { dir, name }.
import { guard } from 'syncguard/pid'
import { config, hear, say } from '../child.mjs'

const busy = setInterval(() => {}, 1 << 30)
let cleanup

const actions = {
  start() {
    guard(config.dir, config.name, (error, { state }, clean) => {
      cleanup = clean
      say({ is: error ? 'refused' : 'started', state, code: error?.code, pid: error?.context?.pid })
    })
  },
  async cleanup() {
    await cleanup()
    say({ is: 'cleaned' })
  },
  /** Ends in one of the ways in which a process does. */
  end({ how }) {
    clearInterval(busy)
    if (how === 'process.exit()') process.exit(0)
    if (how === 'an uncaught error')
      setImmediate(() => {
        throw new Error('on purpose')
      })
  }
}

hear((message) => actions[message.do](message))
say({ is: 'ready' })
