// The tools must be able to fail: a checker that never found anything proves nothing.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { test } from 'node:test'
import { violations } from './history.mjs'
import { FaultProxy } from './proxy.mjs'
import { openRegister, startRegister } from './register.mjs'
import { sleep, until } from './wait.mjs'

const fence = (n) => String(n).padStart(15, '0')
const grant = (n, called, returned, released, deadline = 10_000) => ({
  ...{ key: 'k', fence: fence(n), called: String(called), returned: String(returned) },
  ...{ released: released === undefined ? undefined : String(released), deadline: String(deadline) }
})

test('a good history has no violations', () => {
  assert.deepEqual(violations([grant(1, 0, 10, 20), grant(2, 5, 30, 40), grant(4, 35, 50)]), [])
})

for (const [what, history, rule] of [
  ['a fence that was granted twice', [grant(1, 0, 10, 20), grant(1, 30, 40, 50)], /I2.*twice/],
  ['a fence that is lower than an earlier grant', [grant(2, 0, 10, 20), grant(1, 30, 40, 50)], /I2.*before/],
  ['two holders at a time', [grant(1, 0, 10, 30), grant(2, 5, 20, 40)], /I3/],
  ['a holder after one that never released', [grant(1, 0, 10, undefined, 100), grant(2, 5, 99, 120)], /I3/],
  ['an overlap with the holder before the last', [grant(1, 0, 10, 90), grant(2, 5, 91, 95, 96), grant(3, 5, 94, 99)], /I3/],
  ['something that is no fence', [{ ...grant(1, 0, 10, 20), fence: '17' }], /no fence/]
]) {
  test(`the checker finds ${what}`, () => assert.match(violations(history).join('\n'), rule))
}

test('the checker finds what a register should have refused', () => {
  assert.match(
    violations(
      [],
      [
        { key: 'k', fence: fence(2) },
        { key: 'k', fence: fence(1) }
      ]
    ).join(),
    /I1/
  )
})

test('the register refuses a lower fence of the same key', async () => {
  const register = await startRegister()
  const client = await openRegister(register.port)
  assert.equal(await client.write('a', fence(5)), true)
  assert.equal(await client.write('b', fence(1)), true)
  assert.equal(await client.write('a', fence(4)), false)
  assert.equal(await client.write('a', fence(5)), true)
  const { accepted, rejected } = await register.report()
  assert.deepEqual([accepted.length, rejected.length], [3, 1])
  client.close()
  await register.stop()
})

test('the register outlives a client that is killed with its answer unread', async () => {
  const register = await startRegister()
  const killed = connect(register.port, '127.0.0.1').pause()
  await once(killed, 'connect')
  killed.write(`${JSON.stringify({ key: 'a', fence: fence(1) })}\n`)
  await until(async () => (await register.report()).accepted.length === 1)
  killed.resetAndDestroy()
  const client = await openRegister(register.port)
  assert.equal(await client.write('a', fence(2)), true)
  client.close()
  await register.stop()
})

const closed = (socket) => new Promise((resolve) => socket.once('close', resolve)) // once() would reject on a reset

async function echoThroughProxy(t) {
  const server = createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy = await FaultProxy.start({ port: server.address().port })
  const client = connect(proxy.port, '127.0.0.1').on('error', () => {})
  const got = []
  client.on('data', (chunk) => got.push(...chunk.toString()))
  await once(client, 'connect')
  client.write('a')
  await once(client, 'data')
  t.after(() => (proxy.stop(), client.destroy(), server.close()))
  return { proxy, client, got, connection: proxy.connections[0] }
}

test('the proxy freezes and thaws', async (t) => {
  const { proxy, client, got } = await echoThroughProxy(t)
  proxy.freeze()
  client.write('b')
  await sleep(30)
  assert.deepEqual(got, ['a'])
  proxy.thaw()
  await once(client, 'data')
  assert.deepEqual(got, ['a', 'b'])
})

test('the proxy swallows the reply to one request', async (t) => {
  const { proxy, client, got, connection } = await echoThroughProxy(t)
  const swallowed = proxy.swallowReplyTo('secret')
  client.write('secret')
  assert.equal(await swallowed, connection)
  await closed(client)
  assert.deepEqual(got, ['a'])
  assert.equal(connection.toServer.passed, 7)
})

test('the proxy delays, trickles, drops and cuts', async (t) => {
  const { client, got, connection } = await echoThroughProxy(t)
  connection.toClient.delay(60)
  const start = performance.now()
  client.write('b')
  await once(client, 'data')
  assert.ok(performance.now() - start >= 55)
  connection.toClient.pass()
  connection.toClient.trickle()
  client.write('cd')
  while (got.length < 4) await once(client, 'data')
  connection.toClient.pass()
  connection.toServer.drop()
  client.write('x')
  await sleep(20)
  connection.toServer.pass()
  connection.toClient.cutAfter(1)
  client.write('ef')
  await closed(client)
  assert.deepEqual(got.join(''), 'abcde')
})
