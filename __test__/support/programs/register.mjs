// A register behind a socket that refuses older fences, and reports what it accepted.
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { hear, say } from '../child.mjs'

const highest = new Map()
const accepted = []
const rejected = []

const server = createServer((socket) => {
  socket.setNoDelay(true).on('error', () => {})
  // A killed client resets its connection, which readline tells as well, and may leave half a line behind.
  const lines = createInterface({ input: socket }).on('error', () => {})
  lines.on('line', (line) => {
    if (!line.endsWith('}')) return
    const write = JSON.parse(line)
    const fits = write.fence >= (highest.get(write.key) ?? '')
    if (fits) highest.set(write.key, write.fence)
    ;(fits ? accepted : rejected).push(write)
    socket.write(fits ? 'accepted\n' : 'rejected\n')
  })
})
server.listen(0, '127.0.0.1', () => say({ is: 'listening', port: server.address().port }))
hear(() => say({ is: 'report', accepted, rejected }))
