// Section 2, targets: clients of ioredis and node-redis are adopted and left alone; URLs, objects, sockets, TLS, users.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Redis5 from 'ioredis5'
import Redis6 from 'ioredis6'
import { createClient as nodeRedis } from 'redis'
import { createClient as nodeRedis4 } from 'redis4'
import { createBackend, createLock } from 'syncguard'
import { createRedisBackend } from 'syncguard/redis'
import { isGrant, rejectsWith, tellsNoSecret, throwsWith } from '../support/assertions.mjs'
import { skipWithout } from '../support/needs.mjs'
import { makeCertificates, RedisServer } from '../support/servers.mjs'

const skip = skipWithout('redis')

describe('Redis targets', { skip }, () => {
  let plain, secured, tls, certificates
  const backends = []

  before(async () => {
    certificates = makeCertificates()
    plain = await RedisServer.start({ unixSocket: true })
    secured = await RedisServer.start({ password: 'canary-password', acl: ['alice on >canary-alice ~* &* +@all'] })
    tls = await RedisServer.start({ tls: certificates })
  })
  after(async () => {
    await Promise.all(backends.map((backend) => backend.close()))
    await Promise.all([plain, secured, tls].map((server) => server?.stop()))
  })

  const open = (target, options) => {
    const backend = createRedisBackend(target, options)
    backends.push(backend)
    return backend
  }

  /** Acquires and releases, and answers where in `server`'s database the lock was. */
  async function whereItLocks(backend, server, db = 0) {
    const held = isGrant(await backend.acquire({ key: 'a', ttlMs: 30_000 }))
    const raw = server.client({ db })
    const found = []
    for (const stored of await raw.keys('*')) if ((await raw.type(stored)) === 'string' && (await raw.get(stored)).includes(held.lockId)) found.push(stored)
    const index = await raw.keys(`*id:${held.lockId}`)
    raw.disconnect()
    assert.deepEqual(await held.release(), { ok: true })
    assert.equal(found.length, 1)
    return { lock: found[0], index: index[0] }
  }

  for (const [name, make, connected] of [
    ['ioredis 5', (options) => new Redis5({ lazyConnect: true, ...options }), (client) => client.status !== 'wait'],
    ['ioredis 6', (options) => new Redis6({ lazyConnect: true, ...options }), (client) => client.status !== 'wait']
  ]) {
    test(`${name}: adopted, never connected, changed or closed`, async () => {
      const client = make({ host: '127.0.0.1', port: plain.port })
      const options = structuredClone(Object.fromEntries(Object.entries(client.options).filter(([, value]) => typeof value !== 'function')))
      const backend = open(client)
      assert.equal((await whereItLocks(backend, plain)).lock, 'syncguard:a')
      await backend.close()
      assert.equal(connected(client), false)
      assert.deepEqual(structuredClone(Object.fromEntries(Object.entries(client.options).filter(([, value]) => typeof value !== 'function'))), options)
      assert.equal(await client.ping(), 'PONG', 'still usable')
      client.disconnect()
    })

    test(`${name}: keyPrefix goes in front of every key`, async () => {
      const client = make({ host: '127.0.0.1', port: plain.port, keyPrefix: 'app:' })
      const { lock, index } = await whereItLocks(open(client), plain)
      assert.equal(lock, 'app:syncguard:a')
      assert.match(index, /^app:syncguard:id:/)
      assert.equal(await plain.raw.exists('app:syncguard:fence:syncguard:a'), 1)
      client.disconnect()
    })

    test(`${name}: db, user and password, TLS and unix socket`, async () => {
      const clients = [
        [make({ host: '127.0.0.1', port: plain.port, db: 3 }), plain, 3],
        [make({ path: plain.socketPath }), plain, 0],
        [make({ host: '127.0.0.1', port: secured.port, password: 'canary-password' }), secured, 0],
        [make({ host: '127.0.0.1', port: secured.port, username: 'alice', password: 'canary-alice' }), secured, 0],
        [make({ host: '127.0.0.1', port: tls.port, tls: { ca: certificates.read(certificates.ca.cert) } }), tls, 0]
      ]
      for (const [client, server, db] of clients) {
        assert.equal((await whereItLocks(open(client), server, db)).lock, 'syncguard:a')
        assert.equal(connected(client), false)
        client.disconnect()
      }
    })

    test(`${name}: a custom connector can't be adopted, and is named`, () => {
      class Connector {}
      const client = make({ host: '127.0.0.1', Connector })
      assert.match(throwsWith(() => createRedisBackend(client), 'InvalidArgument').message, /Connector/)
      client.disconnect()
    })
  }

  for (const [name, createClient] of [
    ['node-redis 6', nodeRedis],
    ['node-redis 4', nodeRedis4]
  ]) {
    test(`${name}: adopted, never connected`, async () => {
      for (const [options, server, db] of [
        [{ url: plain.url }, plain, 0],
        [{ url: `${plain.url}/2` }, plain, 2],
        [{ socket: { host: '127.0.0.1', port: plain.port }, database: 4 }, plain, 4],
        [{ socket: { path: plain.socketPath } }, plain, 0],
        [{ url: secured.url }, secured, 0],
        [{ socket: { port: secured.port, host: '127.0.0.1' }, username: 'alice', password: 'canary-alice' }, secured, 0],
        [{ socket: { port: tls.port, host: '127.0.0.1', tls: true, ca: certificates.read(certificates.ca.cert) } }, tls, 0]
      ]) {
        const client = createClient(options)
        assert.equal((await whereItLocks(open(client), server, db)).lock, 'syncguard:a', JSON.stringify(options.socket ?? options.url))
        assert.equal(client.isOpen, false)
      }
    })
  }

  test('URLs and objects', async () => {
    for (const [target, server, db] of [
      [`redis://127.0.0.1:${plain.port}/5`, plain, 5],
      [new URL(`redis://127.0.0.1:${plain.port}`), plain, 0],
      [`redis+unix://${plain.socketPath}`, plain, 0],
      [`redis://alice:canary-alice@127.0.0.1:${secured.port}`, secured, 0],
      [{ host: '127.0.0.1', port: plain.port, db: 6 }, plain, 6],
      [{ host: '127.0.0.1', port: secured.port, username: 'alice', password: 'canary-alice' }, secured, 0],
      [{ host: '127.0.0.1', port: tls.port, tls: { ca: certificates.read(certificates.ca.cert) } }, tls, 0]
    ]) {
      assert.equal((await whereItLocks(open(target), server, db)).lock, 'syncguard:a', String(target))
    }
  })

  test('keyPrefix of the options', async () => {
    const { lock } = await whereItLocks(open(plain.url, { keyPrefix: 'other:' }), plain)
    assert.equal(lock, 'other:a')
  })

  test('TLS verifies: an unknown authority and a wrong host are refused, and nothing falls back', async () => {
    const unknown = open(`rediss://127.0.0.1:${tls.port}`, { operationTimeoutMs: 2000 })
    const error = await unknown.acquire({ key: 'a', ttlMs: 1000 }).catch((thrown) => thrown)
    assert.match(error.code, /ServiceUnavailable|AuthFailed/)
    const wrong = await RedisServer.start({ tls: { ...certificates, server: certificates.wrongHost } })
    try {
      const ca = certificates.read(certificates.ca.cert)
      const backend = open({ host: '127.0.0.1', port: wrong.port, tls: { ca } }, { operationTimeoutMs: 2000 })
      const refused = await backend.acquire({ key: 'a', ttlMs: 1000 }).catch((thrown) => thrown)
      assert.match(String(refused.code), /ServiceUnavailable|AuthFailed/)
    } finally {
      await wrong.stop()
    }
  })

  test('the root entry connects and checks', async () => {
    const backend = await createBackend(plain.url)
    assert.equal(backend.capabilities.backend, 'redis')
    isGrant(await backend.acquire({ key: 'root', ttlMs: 1000 }))
    await backend.close()
    const lock = await createLock(new Redis5({ port: plain.port, lazyConnect: true }))
    assert.equal(await lock(() => 'inside', { key: 'root-lock' }), 'inside')
    await lock.close()
    const refused = await rejectsWith(() => createBackend(`redis://:canary-wrong@127.0.0.1:${secured.port}`), 'AuthFailed')
    tellsNoSecret(`${refused.stack} ${JSON.stringify(refused)} ${refused.cause?.stack}`, 'canary-wrong')
    await rejectsWith(() => createBackend('redis://127.0.0.1:1'), 'ServiceUnavailable')
    process.env.SYNCGUARD_URL = plain.url
    try {
      const fromEnvironment = await createBackend()
      assert.equal(fromEnvironment.capabilities.backend, 'redis')
      await fromEnvironment.close()
    } finally {
      delete process.env.SYNCGUARD_URL
    }
  })

  test('two clients of one server are one store: a lease of one is seen by the other', async () => {
    const held = isGrant(await open(new Redis5({ port: plain.port, lazyConnect: true })).acquire({ key: 'shared', ttlMs: 30_000 }))
    assert.equal((await open(plain.url).acquire({ key: 'shared', ttlMs: 1000 })).ok, false)
    await held.release()
  })
})
