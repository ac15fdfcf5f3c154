// One process warning where Redis may evict locks.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRedisBackend } from 'syncguard/redis'
import { isGrant } from '../support/assertions.mjs'
import { skipWithout } from '../support/needs.mjs'
import { RedisServer } from '../support/servers.mjs'
import { until } from '../support/wait.mjs'

const skip = skipWithout('redis')

/** The warnings of this package while `work` ran, and until `enough` of them are there. */
async function warningsOf(work, enough) {
  const warnings = []
  const listen = (warning) => {
    if (warning.code?.startsWith('SYNCGUARD_')) warnings.push(warning)
  }
  process.on('warning', listen)
  try {
    await work()
    await until(() => warnings.length >= enough)
    await new Promise((resolve) => setTimeout(resolve, 100))
  } finally {
    process.off('warning', listen)
  }
  return warnings
}

async function use(server) {
  const backend = createRedisBackend(server.url)
  for (const key of ['a', 'b']) {
    assert.deepEqual(await isGrant(await backend.acquire({ key, ttlMs: 5000 })).release(), { ok: true })
    await server.raw.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  }
  await backend.isLocked({ key: 'a' })
  await backend.close()
}

test('a server that may evict locks is warned of once a backend, also after reconnects', { skip }, async () => {
  const server = await RedisServer.start({ password: 'canary-password', args: ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'] })
  try {
    const [warning, ...others] = await warningsOf(() => use(server), 1)
    assert.deepEqual(others, [])
    assert.deepEqual([warning.name, warning.code], ['LockEviction', 'SYNCGUARD_EVICTION'])
    assert.match(warning.message, /^\[SyncGuard\] Redis at 127\.0\.0\.1:\d+ may evict locks .*allkeys-lru.*fence.*noeviction/)
    assert.doesNotMatch(warning.message, /canary/)
  } finally {
    await server.stop()
  }
})

test('noeviction and no limit at all are not warned of', { skip }, async () => {
  for (const args of [
    ['--maxmemory', '100mb', '--maxmemory-policy', 'noeviction'],
    ['--maxmemory-policy', 'allkeys-lru']
  ]) {
    const server = await RedisServer.start({ args })
    try {
      assert.deepEqual(await warningsOf(() => use(server), 0), [])
    } finally {
      await server.stop()
    }
  }
})
