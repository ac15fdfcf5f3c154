// An application that must run once: does what its parent says. Its configuration: { dir, name }.
import { guard } from 'syncguard/pid'
import { config, obey, say } from '../child.mjs'

let cleanup

obey({
  start() {
    guard(config.dir, config.name, (error, { state }, clean) => {
      cleanup = clean
      say({ is: error ? 'refused' : 'started', state, code: error?.code, pid: error?.context?.pid })
    })
  },
  async cleanup() {
    await cleanup()
    say({ is: 'cleaned' })
  }
})
