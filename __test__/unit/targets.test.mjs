// Targets as the user gives them, down to the facts that Rust gets. The clients are the real ones, never connected.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { inspect } from 'node:util'

const require = createRequire(import.meta.url)
const { redis } = require('../../dist/targets/redis.js')
const { postgres } = require('../../dist/targets/postgres.js')
const { firestore } = require('../../dist/targets/firestore.js')
const { file } = require('../../dist/targets/file.js')
const { kindOf } = require('../../dist/targets/kinds.js')
const { resolveTarget } = require('../../dist/targets/target.js')

const facts = (kind, target) => Object.fromEntries(resolveTarget(kind, target).target)
const invalid = (pattern) => (error) => {
  assert.equal(error.name, 'LockError')
  assert.equal(error.code, 'InvalidArgument')
  assert.match(error.message, pattern)
  assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes('s3cret'))
  return true
}

for (const version of ['ioredis5', 'ioredis6']) {
  const Redis = require(version)
  const lazy = (options) => new Redis({ lazyConnect: true, ...options })

  test(`${version}: host, login, database, prefix, name, TLS`, () => {
    const client = lazy({
      host: 'h',
      port: 1,
      username: 'u',
      password: 'p',
      db: 2,
      keyPrefix: 'kp:',
      connectionName: 'cn',
      tls: { ca: ['one', Buffer.from('two')], servername: 's', rejectUnauthorized: false }
    })
    const before = inspect(client.options)
    assert.deepEqual(facts(redis, client), {
      host: 'h',
      port: 1,
      username: 'u',
      password: 'p',
      db: 2,
      clientKeyPrefix: 'kp:',
      clientName: 'cn',
      'tls.ca': 'one\ntwo',
      'tls.servername': 's',
      'tls.rejectUnauthorized': false
    })
    assert.equal(inspect(client.options), before, 'the client was not changed')
    assert.equal(client.status, 'wait', 'nor connected')
    assert.equal(kindOf(client), redis)
  })

  test(`${version}: defaults, URL, socket, bytes as a prefix`, () => {
    assert.deepEqual(facts(redis, lazy({})), { host: 'localhost', port: 6379, db: 0 })
    assert.deepEqual(facts(redis, new Redis('rediss://u:p%40@h:99/3', { lazyConnect: true })), {
      host: 'h',
      port: 99,
      username: 'u',
      password: 'p@',
      db: 3,
      tls: true
    })
    assert.deepEqual(facts(redis, new Redis('/run/redis.sock', { lazyConnect: true })), { path: '/run/redis.sock', db: 0 })
    assert.equal(facts(redis, lazy({ keyPrefix: Buffer.from('ü:') })).clientKeyPrefix, 'ü:')
    assert.throws(() => facts(redis, lazy({ keyPrefix: Buffer.from([0xff]) })), invalid(/keyPrefix/))
    assert.equal(facts(redis, lazy({ tls: {} })).tls, true)
  })

  test(`${version}: sentinels`, () => {
    const options = { sentinels: [{ host: 's1', port: 1 }, { host: 'fe80::1' }], name: 'm', sentinelUsername: 'su', sentinelPassword: 'sp', password: 'p', db: 1 }
    const common = { sentinels: 's1:1,[fe80::1]:26379', sentinelName: 'm', sentinelUsername: 'su', sentinelPassword: 'sp', password: 'p', db: 1 }
    const expected = { ...common, sentinelTls: false }
    assert.deepEqual(facts(redis, lazy(options)), expected)
    const tls = { ca: 'c' }
    assert.deepEqual(facts(redis, lazy({ ...options, tls })), expected, 'ioredis uses no TLS then')
    const both = { ...common, 'tls.ca': 'c', 'sentinelTls.servername': 's' }
    assert.deepEqual(facts(redis, lazy({ ...options, tls, sentinelTLS: { servername: 's' }, enableTLSForSentinelMode: true })), both)
    assert.deepEqual(facts(redis, lazy({ ...options, sentinelTLS: {} })), { ...common, sentinelTls: true })
    assert.deepEqual(facts(redis, lazy({ ...options, tls, enableTLSForSentinelMode: true })), { ...expected, 'tls.ca': 'c' })
    assert.throws(() => facts(redis, lazy({ ...options, sentinelTLS: { pfx: 'x' } })), invalid(/sentinelTLS\.pfx/))
    assert.throws(() => facts(redis, lazy({ ...options, natMap: {} })), invalid(/natMap/))
    assert.throws(() => facts(redis, lazy({ ...options, role: 'slave' })), invalid(/role/))
  })

  test(`${version}: Cluster`, () => {
    const cluster = (nodes, options) => new Redis.Cluster(nodes, { lazyConnect: true, ...options })
    const mixed = cluster([{ host: 'c1', port: 7000 }, 'redis://c2:7001', 7002, 'c3:7003'], {
      keyPrefix: 'kp:',
      dnsLookup: (address, done) => done(null, address),
      redisOptions: { username: 'u', password: 'p', tls: { ca: 'c' }, connectionName: 'n' }
    })
    assert.deepEqual(facts(redis, mixed), {
      clusterNodes: 'c1:7000,c2:7001,127.0.0.1:7002,c3:7003',
      username: 'u',
      password: 'p',
      clientKeyPrefix: 'kp:',
      clientName: 'n',
      'tls.ca': 'c'
    })
    assert.equal(kindOf(mixed), redis)
    assert.deepEqual(facts(redis, cluster([{ host: 'c1', password: 'own' }], { redisOptions: { password: 'shared', keyPrefix: 'x' } })), {
      clusterNodes: 'c1:6379',
      password: 'own',
      clientKeyPrefix: 'x'
    })
    assert.throws(() => facts(redis, cluster(['c:1'], { natMap: { 'a:1': { host: 'b', port: 1 } } })), invalid(/natMap/))
    assert.throws(() => facts(redis, cluster(['c'], { useSRVRecords: true })), invalid(/useSRVRecords/))
  })

  test(`${version}: what can't be adopted is named`, () => {
    class Connector {
      check() {
        return true
      }
      connect() {}
      disconnect() {}
    }
    assert.throws(() => facts(redis, lazy({ Connector, password: 's3cret' })), invalid(/Connector/))
    for (const name of ['checkServerIdentity', 'secureContext', 'pfx']) {
      assert.throws(() => facts(redis, lazy({ tls: { [name]: () => {} }, password: 's3cret' })), invalid(new RegExp(`tls\\.${name}`)))
    }
    assert.throws(() => facts(redis, lazy({ tls: { key: [{ pem: 's3cret' }] } })), invalid(/tls\.key/))
  })
}

for (const version of ['redis', 'redis4']) {
  const { createClient, createCluster } = require(version)

  test(`node-redis (${version}): URL, socket, options`, () => {
    assert.deepEqual(facts(redis, createClient()), {})
    const url = createClient({ url: 'rediss://u:p%40@h:99/3', socket: { ca: 'c', rejectUnauthorized: false }, name: 'n' })
    assert.deepEqual(facts(redis, url), {
      host: 'h',
      port: 99,
      db: 3,
      username: 'u',
      password: 'p@',
      clientName: 'n',
      'tls.ca': 'c',
      'tls.rejectUnauthorized': false
    })
    const path = createClient({ socket: { path: '/run/r' }, username: 'u', password: 'p', database: 2 })
    assert.deepEqual(facts(redis, path), { path: '/run/r', db: 2, username: 'u', password: 'p' })
    assert.equal(facts(redis, createClient({ socket: { tls: true } })).tls, true)
    assert.equal(kindOf(path), redis)
    assert.equal(path.isOpen, false)
    assert.throws(() => facts(redis, createClient({ socket: { tls: true, checkServerIdentity() {} } })), invalid(/socket\.checkServerIdentity/))
  })

  test(`node-redis (${version}): cluster`, () => {
    const cluster = createCluster({
      rootNodes: [{ url: 'rediss://u:p@c1:1' }, { socket: { host: 'c2', port: 2 } }],
      defaults: { name: 'n', socket: { ca: 'c' } }
    })
    if (version === 'redis4') {
      assert.throws(() => facts(redis, cluster), invalid(/private/))
    } else {
      assert.deepEqual(facts(redis, cluster), { clusterNodes: 'c1:1,c2:2', username: 'u', password: 'p', clientName: 'n', 'tls.ca': 'c' })
    }
    assert.throws(() => facts(redis, createCluster({ rootNodes: [], nodeAddressMap: {} })), invalid(/./))
  })
}

test('node-redis: prefix, credentials providers, sentinel', async () => {
  const { createClient, createSentinel } = require('redis')
  assert.equal(facts(redis, createClient({ keyPrefix: 'kp:' })).clientKeyPrefix, 'kp:')

  let asked = 0
  const provider = { type: 'async-credentials-provider', credentials: async () => ({ username: 'u', password: `p${++asked}` }) }
  const own = resolveTarget(redis, createClient({ credentialsProvider: provider }))
  assert.deepEqual(own.target, [])
  assert.deepEqual(await own.password(), { text: 'p1', user: 'u' })
  assert.deepEqual(await own.password(), { text: 'p2', user: 'u' })

  let disposed = 0
  const streaming = { type: 'streaming-credentials-provider', subscribe: async () => [{ password: 'p' }, { dispose: () => disposed++ }] }
  assert.deepEqual(await resolveTarget(redis, createClient({ credentialsProvider: streaming })).password(), { text: 'p' })
  assert.equal(disposed, 1)

  const sentinel = createSentinel({ name: 'm', sentinelRootNodes: [{ host: 's', port: 1 }], nodeClientOptions: { password: 's3cret' } })
  assert.throws(() => facts(redis, sentinel), invalid(/redis-sentinel:/))
})

test('postgres.js', async () => {
  const sql = require('postgres')
  const url = sql('postgres://u:p@h:1/d?sslmode=verify-full&application_name=me&target_session_attrs=primary')
  assert.deepEqual(facts(postgres, url), {
    host: 'h',
    port: 1,
    user: 'u',
    password: 'p',
    database: 'd',
    sslmode: 'verify-full',
    ssl: true,
    applicationName: 'me',
    targetSessionAttrs: 'primary'
  })
  assert.equal(kindOf(url), postgres)
  const several = sql({ host: ['a', 'b'], port: [1, 2], user: 'u', database: 'd', ssl: { ca: 'c' } })
  assert.deepEqual(facts(postgres, several), {
    hosts: 'a:1,b:2',
    user: 'u',
    database: 'd',
    sslmode: 'verify-full',
    'tls.ca': 'c',
    applicationName: 'postgres.js'
  })
  const lax = sql({ host: 'h', user: 'u', ssl: { rejectUnauthorized: false } })
  assert.equal(facts(postgres, lax).sslmode, 'require')
  assert.equal(facts(postgres, lax)['tls.rejectUnauthorized'], false)
  for (const [ssl, sslmode] of [
    ['require', 'require'],
    ['prefer', 'prefer'],
    [true, 'verify-full'],
    [false, 'disable']
  ]) {
    assert.equal(facts(postgres, sql({ host: 'h', user: 'u', ssl })).sslmode, sslmode)
  }
  const empty = facts(postgres, sql({ host: 'h', user: 'u', ssl: {} }))
  assert.deepEqual([empty.sslmode, empty.ssl], ['verify-full', true])
  const socket = facts(postgres, sql({ host: '/run/pg', port: 5, user: 'u', connection: { search_path: 'a, b' } }))
  assert.deepEqual([socket.host, socket.port, socket.options], ['/run/pg', 5, '-c search_path=a,\\ b'])
  let asked = 0
  const token = resolveTarget(postgres, sql({ host: 'h', user: 'u', pass: async () => `p${++asked}` }))
  assert.ok(!token.target.some(([name]) => name === 'password'))
  assert.deepEqual([await token.password(), await token.password()], [{ text: 'p1' }, { text: 'p2' }])
  assert.throws(() => facts(postgres, sql({ user: 'u', pass: 's3cret', socket: () => {} })), invalid(/socket/))
  assert.throws(() => facts(postgres, sql({ user: 'u', path: '/run/odd' })), invalid(/path/))
})

test('pg: Pool and Client', async () => {
  const { Pool, Client } = require('pg')
  const options = { host: 'h', port: 1, user: 'u', password: 'p', database: 'd', application_name: 'me', options: '-c a=b' }
  const expected = { host: 'h', port: 1, user: 'u', password: 'p', database: 'd', applicationName: 'me', options: '-c a=b', sslmode: 'disable' }
  const pool = new Pool(options)
  assert.deepEqual(facts(postgres, pool), expected)
  assert.equal(pool.totalCount, 0)
  assert.equal(kindOf(pool), postgres)
  assert.deepEqual(facts(postgres, new Client(options)), expected)
  assert.equal(kindOf(new Client(options)), postgres)

  const url = 'postgres://u:p@h:1/d?sslmode=no-verify'
  for (const client of [new Pool({ connectionString: url }), new Client(url)]) {
    assert.deepEqual(facts(postgres, client), {
      host: 'h',
      port: 1,
      user: 'u',
      password: 'p',
      database: 'd',
      sslmode: 'require',
      'tls.rejectUnauthorized': false
    })
  }

  const ssl = { ca: 'ca', cert: 'cert', key: 'key' }
  const secured = new Pool({ host: 'h', user: 'u', ssl })
  const before = inspect(secured.options, { showHidden: true })
  const { sslmode, ...tls } = facts(postgres, secured)
  assert.deepEqual([sslmode, tls['tls.ca'], tls['tls.cert'], tls['tls.key']], ['verify-full', 'ca', 'cert', 'key'])
  assert.equal(inspect(secured.options, { showHidden: true }), before, "the pool's own settings stay as they were")
  assert.equal(facts(postgres, new Client({ host: 'h', ssl: { ca: 'ca', cert: 'cert', key: 'key' } }))['tls.key'], 'key')

  for (const make of [Pool, Client]) {
    const empty = facts(postgres, new make({ host: 'h', user: 'u', ssl: {} }))
    assert.deepEqual([empty.sslmode, empty.ssl], ['verify-full', true])
    const { target, password } = resolveTarget(postgres, new make({ host: 'h', user: 'u', password: async ({ host }) => `for ${host}` }))
    assert.ok(!target.some(([name]) => name === 'password'))
    assert.deepEqual(await password(), { text: 'for h' })
  }
  assert.throws(() => facts(postgres, new Pool({ stream: () => {}, password: 's3cret' })), invalid(/stream/))
  assert.throws(() => facts(postgres, new Client({ stream: () => ({ on() {} }), password: 's3cret' })), invalid(/stream/))
  assert.throws(() => facts(postgres, new Client({ ssl: { checkServerIdentity() {} } })), invalid(/ssl\.checkServerIdentity/))
})

test('@google-cloud/firestore', async (t) => {
  const { Firestore } = require('@google-cloud/firestore')
  const emulator = process.env.FIRESTORE_EMULATOR_HOST
  t.after(() => (emulator === undefined ? delete process.env.FIRESTORE_EMULATOR_HOST : (process.env.FIRESTORE_EMULATOR_HOST = emulator)))
  delete process.env.FIRESTORE_EMULATOR_HOST
  const credentials = { client_email: 'e', private_key: 'k' }
  const pair = { 'credentials.client_email': 'e', 'credentials.private_key': 'k' }
  const client = new Firestore({ projectId: 'p', databaseId: 'd', host: 'h:1', credentials, ignoreUndefinedProperties: true })
  const before = inspect(client._settings)
  assert.deepEqual(facts(firestore, client), { projectId: 'p', databaseId: 'd', host: 'h:1', ...pair })
  assert.equal(inspect(client._settings), before, 'the client was not changed')
  assert.equal(kindOf(client), firestore)

  assert.deepEqual(facts(firestore, new Firestore()), {})
  const account = { type: 'service_account', project_id: 'of-account', ...credentials, client_id: '1' }
  assert.deepEqual(facts(firestore, new Firestore({ credentials: account })), { projectId: 'of-account', ...pair })
  assert.deepEqual(facts(firestore, new Firestore({ projectId: 'p', credentials: account })), { projectId: 'p', ...pair })
  assert.deepEqual(facts(firestore, new Firestore({ keyFilename: '/f' })), { keyFilename: '/f' })
  assert.deepEqual(facts(firestore, new Firestore({ keyFile: '/f' })), { keyFilename: '/f' })
  assert.deepEqual(facts(firestore, new Firestore({ credentials, keyFilename: '/f' })), pair, 'as the client itself prefers it')
  assert.deepEqual(facts(firestore, new Firestore({ apiEndpoint: 'h', port: 5, ssl: true })), { host: 'h:5', ssl: true })
  assert.deepEqual(facts(firestore, new Firestore({ universeDomain: 'googleapis.com' })), {})
  const late = new Firestore()
  late.settings({ projectId: 'p', host: '[::1]:8080', ssl: false })
  assert.deepEqual(facts(firestore, late), { projectId: 'p', host: '[::1]:8080', ssl: false })

  // Without TLS the client shows nobody who it is; what it tells an emulator it adds when it is first used.
  const emulated = new Firestore({ projectId: 'p', host: '127.0.0.1:1', ssl: false, credentials, keyFilename: '/f' })
  await emulated.initializeIfNeeded('tag')
  assert.deepEqual(emulated._settings.customHeaders, { Authorization: 'Bearer owner' })
  assert.deepEqual(facts(firestore, emulated), { projectId: 'p', host: '127.0.0.1:1', ssl: false })

  process.env.FIRESTORE_EMULATOR_HOST = '127.0.0.1:9'
  assert.deepEqual(facts(firestore, new Firestore({ projectId: 'p', host: 'h:1', credentials })), { projectId: 'p', host: '127.0.0.1:9', ssl: false })
})

test('@google-cloud/firestore: whoever brings tokens is asked for them', async () => {
  const { Firestore } = require('@google-cloud/firestore')
  const asked = []
  const source = (headers) => ({ getRequestHeaders: async (url) => (asked.push(url), headers) })
  for (const [settings, url] of [
    [{ auth: source(new Headers({ authorization: 'Bearer t1' })) }, 'https://firestore.googleapis.com/google.firestore.v1.Firestore'],
    [{ authClient: source({ Authorization: 'Bearer t1' }), host: 'h:1' }, 'https://h:1/google.firestore.v1.Firestore']
  ]) {
    const { target, password } = resolveTarget(firestore, new Firestore({ projectId: 'p', ...settings }))
    assert.ok(!target.some(([name]) => /token|credentials|key/.test(name)))
    assert.deepEqual(await password(), { text: 't1' })
    assert.equal(asked.at(-1), url)
  }
  for (const auth of [{}, source({}), source(new Headers({ authorization: 'Basic s3cret' }))]) {
    await assert.rejects(resolveTarget(firestore, new Firestore({ auth })).password(), invalid(/token function/))
  }
})

test("@google-cloud/firestore: what can't be adopted is named", () => {
  const { Firestore } = require('@google-cloud/firestore')
  for (const [name, settings] of Object.entries({
    apiKey: { apiKey: 's3cret' },
    sslCreds: { sslCreds: {} },
    universeDomain: { universeDomain: 'example.com' },
    'customHeaders\\.Authorization': { customHeaders: { Authorization: 'Bearer s3cret' } },
    'customHeaders\\.x-who': { ssl: false, host: 'h', customHeaders: { 'x-who': 's3cret' } },
    'credentials.*keyFilename': { credentials: { type: 'authorized_user', refresh_token: 's3cret' } }
  })) {
    assert.throws(() => facts(firestore, new Firestore({ projectId: 'p', ...settings })), invalid(new RegExp(name)), name)
  }
})

test('objects of facts', async () => {
  assert.deepEqual(resolveTarget(redis, { host: 'h', port: 1, tls: { ca: Buffer.from('c'), key: null }, db: undefined, x: [], y() {} }).target, [
    ['host', 'h'],
    ['port', 1],
    ['tls.ca', Buffer.from('c')],
    ['tls.key', { type: 'null' }],
    ['x', { type: 'an array' }],
    ['y', { type: 'a function' }]
  ])
  assert.deepEqual(facts(redis, { tls: {} }), { tls: true })
  assert.deepEqual(facts(redis, { sentinels: [{ host: 's' }, 't:5'], sentinelName: 'm' }), { sentinels: 's:26379,t:5', sentinelName: 'm' })
  assert.deepEqual(facts(redis, { clusterNodes: 'a:1,b:2' }), { clusterNodes: 'a:1,b:2' })
  const { target, password } = resolveTarget(postgres, { host: 'h', password: () => 'p' })
  assert.deepEqual(target, [['host', 'h']])
  assert.deepEqual(await password(), { text: 'p' })
  await assert.rejects(resolveTarget(redis, { password: () => 5 }).password())
  const token = resolveTarget(firestore, { projectId: 'p', token: async () => 't' })
  assert.deepEqual(token.target, [['projectId', 'p']])
  assert.deepEqual(await token.password(), { text: 't' })
  assert.deepEqual(facts(firestore, { token: 't', password: () => 'p' }), { token: 't', password: { type: 'a function' } })
  const account = { type: 'service_account', client_email: 'e', private_key: 'k' }
  assert.deepEqual(facts(firestore, { credentials: account, ssl: true }), { ssl: true, 'credentials.client_email': 'e', 'credentials.private_key': 'k' })
  assert.deepEqual(facts(firestore, { credentials: {} }), { 'credentials.client_email': { type: 'null' }, 'credentials.private_key': { type: 'null' } })
  assert.deepEqual(facts(firestore, { credentials: 'x' }), { credentials: 'x' })
  assert.deepEqual(facts(redis, Object.assign(Object.create(null), { host: 'h' })), { host: 'h' })
})

test('nothing comes in through a prototype', async () => {
  const strange = {
    password: () => 's3cret',
    token: () => 's3cret',
    sentinels: ['s'],
    clusterNodes: ['c'],
    credentials: {},
    type: 'user',
    client_email: 'e',
    private_key: 'k'
  }
  const inherit = (make) => {
    for (const [name, value] of Object.entries(strange)) Object.defineProperty(Object.prototype, name, { value, configurable: true, writable: true })
    try {
      return make()
    } finally {
      for (const name of Object.keys(strange)) delete Object.prototype[name]
    }
  }
  const own = (resolved) => Object.fromEntries(Object.entries(resolved))
  assert.deepEqual(own(inherit(() => resolveTarget(redis, { host: 'h' }))), { target: [['host', 'h']] })
  assert.deepEqual(own(inherit(() => resolveTarget(firestore, { projectId: 'p' }))), { target: [['projectId', 'p']] })
  const { target } = inherit(() => resolveTarget(firestore, { credentials: { client_email: 'mine' } }))
  assert.deepEqual(target, [
    ['credentials.client_email', 'mine'],
    ['credentials.private_key', { type: 'null' }]
  ])
  const { openAny } = require('../../dist/open.js')
  const parts = await inherit(() => openAny('memory:inherited'))
  assert.equal(parts.passwordSlot, undefined)
  await parts.client.close()
})

test('setupSchema takes the options that a backend is opened with, and an unknown one is told with each known one once', async () => {
  const { createPostgresBackend, setupSchema } = require('syncguard/postgres')
  const url = 'postgres://u:s3cret@127.0.0.1:1/d'
  const options = { tableName: 't', cleanupInIsLocked: true, operationTimeoutMs: 5000, disposeTimeoutMs: 100, onReleaseError() {} }
  await createPostgresBackend(url, options).close()
  await assert.rejects(setupSchema(url, options), { code: 'ServiceUnavailable' })
  await assert.rejects(setupSchema(url, { ...options, disposeTimeoutMs: 0 }), invalid(/^disposeTimeoutMs /))
  const refusal = await setupSchema(url, { ...options, strange: 1 }).catch((error) => error)
  const [, known] = /^unknown option "strange"; known here are (.*)$/.exec(refusal.message)
  const names = known.split(', ')
  assert.deepEqual(names, [...new Set(names)])
  for (const name of Object.keys(options)) assert.ok(names.includes(name), name)
})

test('text and URL objects', () => {
  assert.deepEqual(resolveTarget(redis, 'redis://h'), { target: 'redis://h' })
  assert.deepEqual(resolveTarget(redis, new URL('redis://h/1')), { target: 'redis://h/1' })
  assert.deepEqual(facts(file, '/var/lock/mine'), { directory: '/var/lock/mine' })
  assert.deepEqual(resolveTarget(file, 'file:/d'), { target: 'file:/d' })
  assert.deepEqual(facts(file, { directory: '/d' }), { directory: '/d' })
})

test('the root tells stores by scheme, fact and client', () => {
  for (const url of ['redis://h', 'REDISS://h', 'redis+unix:///x', 'redis-sentinel://a/m', 'rediss-sentinel://a/m', 'redis-cluster://a', 'rediss-cluster://a'])
    assert.equal(kindOf(url), redis)
  for (const url of ['postgres://h', 'postgresql://h']) assert.equal(kindOf(url), postgres)
  for (const url of ['firestore://p', 'FIRESTORE://p/d']) assert.equal(kindOf(url), firestore)
  assert.equal(kindOf(new URL('file:///d')), file)
  assert.equal(kindOf({ host: 'h', db: 1 }), redis)
  assert.equal(kindOf({ host: 'h', database: 'd' }), postgres)
  for (const fact of ['projectId', 'databaseId', 'keyFilename', 'credentials', 'token']) assert.equal(kindOf({ host: 'h', [fact]: 'x' }), firestore)
  assert.equal(kindOf({ directory: 'd' }), file)
  for (const target of [{ host: 'h' }, {}, { db: 1, database: 'd' }, null, 5, [], new Map(), () => {}]) {
    assert.throws(() => kindOf(target), invalid(/target must be/))
  }
  assert.throws(() => kindOf('mongodb://u:s3cret@h'), invalid(/mongodb:/))
  assert.throws(() => kindOf('u:s3cret@h'), invalid(/URL/))
  assert.throws(() => kindOf(''), invalid(/URL/))
})

test("another store's client is refused by name of its class", () => {
  const { Pool } = require('pg')
  assert.throws(() => facts(redis, new Pool({ password: 's3cret' })), invalid(/ioredis.*Pool/))
  assert.throws(() => facts(postgres, new (require('ioredis6'))({ lazyConnect: true, password: 's3cret' })), invalid(/pg/))
  for (const target of [undefined, null, 5, true, [], Symbol('s')]) assert.throws(() => resolveTarget(redis, target), invalid(/target/))
})
