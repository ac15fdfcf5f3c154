// The resource that a lock protects, as a process of its own that no fault touches: it accepts a write only when its
// fence is not lower than the highest it has seen for that key.
import { connect } from 'node:net'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { startProgram } from './processes.mjs'

/** Starts the register. `port` is for the clients; `report()` answers { accepted, rejected } in order of arrival. */
export async function startRegister() {
  const program = startProgram('register')
  const { port } = await program.hear('listening')
  return {
    port,
    async report() {
      program.say({ do: 'report' })
      return program.hear('report')
    },
    stop: () => program.kill()
  }
}

/** A client for the processes under test: `write(key, fence)` answers whether it was accepted. */
export async function openRegister(port) {
  const socket = connect(port, '127.0.0.1').setNoDelay(true)
  await once(socket, 'connect')
  const answers = []
  createInterface({ input: socket }).on('line', (line) => answers.shift()(line === 'accepted'))
  return {
    write: (key, fence) =>
      new Promise((resolve) => {
        answers.push(resolve)
        socket.write(`${JSON.stringify({ key, fence })}\n`)
      }),
    close: () => socket.end()
  }
}
