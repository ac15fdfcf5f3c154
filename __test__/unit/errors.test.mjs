// The error class.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { lock, LockError, normalizeAndValidateKey } from 'syncguard/common'
import { createRedisBackend } from 'syncguard/redis'

test('LockError: name, code, message, context, cause', () => {
  const cause = new Error('below')
  const context = { key: 'k', lockId: 'l', cause, retryable: true, outcome: 'unknown' }
  const error = new LockError('RateLimited', 'slow down', context)
  assert.ok(error instanceof Error)
  assert.equal(error.name, 'LockError')
  assert.equal(error.code, 'RateLimited')
  assert.equal(error.message, 'slow down')
  assert.equal(error.context, context)
  assert.equal(error.cause, cause)
  assert.match(String(error), /^LockError: slow down$/)
  assert.match(error.stack, /^LockError: slow down\n/)
})

test('the message defaults to the code; without a context there is none, and no cause', () => {
  const error = new LockError('Internal')
  assert.equal(error.message, 'Internal')
  assert.equal(error.context, undefined)
  assert.equal(Object.hasOwn(error, 'cause'), false)
})

test('errors say what they are about where printing does not show it', async () => {
  const backend = createRedisBackend('redis://127.0.0.1:1', { operationTimeoutMs: 2000 })
  const lockId = 'c4naryc4naryc4naryc4na'
  try {
    const error = await backend.release({ lockId }).catch((e) => e)
    assert.equal(error.code, 'ServiceUnavailable')
    assert.equal(error.context.lockId, lockId)
    assert.deepEqual(Object.keys(error.context), ['retryable', 'outcome'])
    assert.ok(error.cause instanceof Error)
    for (const text of [inspect(error, { depth: 9 }), JSON.stringify(error), String(error), error.stack]) {
      assert.ok(!text.includes(lockId), text)
    }
    const other = await backend.acquire({ key: 'c4nary-key', ttlMs: 1000 }).catch((e) => e)
    assert.equal(other.context.key, 'c4nary-key')
    assert.ok(!inspect(other, { depth: 9 }).includes('c4nary-key'))
    const locking = await lock(backend, () => {}, { key: 'c4nary-key', acquisition: { maxRetries: 0 } }).catch((e) => e)
    assert.equal(locking.code, 'ServiceUnavailable')
    assert.match(locking.stack, /errors\.test\.mjs/, 'the stack leads to the caller')
  } finally {
    await backend.close()
  }
})

test('a synchronous complaint is in one sentence that names the argument', () => {
  assert.throws(() => normalizeAndValidateKey(5), /key/)
})
