// What crosses the boundary is read as it was given: no other character, nothing cut off, no two names made one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createFileBackend, FileLock } from 'syncguard/file'
import { guard } from 'syncguard/pid'
import * as common from 'syncguard/common'
import { createRedisBackend } from 'syncguard/redis'
import { createPostgresBackend } from 'syncguard/postgres'
import { createFirestoreBackend } from 'syncguard/firestore'

const invalid = (pattern) => ({ name: 'LockError', code: 'InvalidArgument', message: pattern })

test('a lock id of other characters that end in the same bytes is refused', async () => {
  for (const id of ['\u0141'.repeat(22), '\u0241'.repeat(22), `${'A'.repeat(21)}\uff21`, '\ud841'.repeat(22), `${'A'.repeat(21)}\u0141`]) {
    assert.throws(() => common.validateLockId(id), invalid(/Invalid lockId format/))
    const backend = createFileBackend('/nowhere')
    await assert.rejects(backend.release({ lockId: id }), invalid(/Invalid lockId format/))
    await assert.rejects(backend.extend({ lockId: id, ttlMs: 1000 }), invalid(/Invalid lockId format/))
    await assert.rejects(backend.lookup({ lockId: id }), invalid(/Invalid lockId format/))
  }
})

test('the hash of a long text is over all of it', () => {
  // The hash's definition, once more.
  const definition = (text) => {
    const h = new Uint32Array(3)
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i)
      h[0] = (h[0] << 5) - h[0] + c
      h[1] = (h[1] << 7) - h[1] + 3 * c
      h[2] = (h[2] << 11) - h[2] + 7 * c
    }
    return [...h].map((part) => part.toString(16).padStart(8, '0')).join('')
  }
  for (const length of [0, 1, 597, 598, 599, 600, 601, 2 ** 20 - 1, 2 ** 20, 2 ** 20 + 1, 2 ** 21 + 7]) {
    const text = 'k'.repeat(Math.max(0, length - 1)) + (length > 0 ? 'z' : '')
    assert.equal(common.hashKey(text), definition(text), `${length} characters`)
  }
  assert.notEqual(common.hashKey(`${'a'.repeat(2 ** 20)}b`), common.hashKey(`${'a'.repeat(2 ** 20)}c`))
})

test('hashKey takes lone surrogates as what they are', () => {
  assert.notEqual(common.hashKey('\ud800'), common.hashKey('\ufffd'))
  assert.notEqual(common.hashKey('\ud800'), common.hashKey('\ud801'))
})

test("a storage key's parts are not made one by lone surrogates", () => {
  const { makeStorageKey } = common
  assert.throws(() => makeStorageKey('p', '\ud800', 1000, 26), invalid(/^key .*lone surrogate/))
  assert.throws(() => makeStorageKey('\udc00', 'k', 1000, 26), invalid(/^prefix .*lone surrogate/))
  assert.equal(makeStorageKey('p', '\ufffd', 1000, 26), 'p:\ufffd')
  const long = (last) => makeStorageKey('p', 'k'.repeat(2 ** 20) + last, 1000, 26)
  assert.notEqual(long('a'), long('b'))
})

const lone = 'a\ud800b'
for (const [what, make, name] of [
  ['a directory of files', () => createFileBackend(`/nowhere/${lone}`), 'directory'],
  ['a directory as a fact', () => createFileBackend({ directory: `/nowhere/${lone}` }), 'directory'],
  ['a file: URL', () => createFileBackend(`file:/nowhere/${lone}`), 'target'],
  ['the path of a FileLock', () => new FileLock(`/nowhere/${lone}`), 'path'],
  ['a Redis prefix', () => createRedisBackend('redis://127.0.0.1:1', { keyPrefix: lone }), 'keyPrefix'],
  ['a Redis URL', () => createRedisBackend(`redis://127.0.0.1:1/0?keyPrefix=${lone}`), 'target'],
  ['a Redis host', () => createRedisBackend({ host: lone, db: 0 }), 'host'],
  ['a PostgreSQL table', () => createPostgresBackend('postgres://127.0.0.1:1/d', { tableName: lone }), 'tableName'],
  ['a PostgreSQL database', () => createPostgresBackend({ host: '127.0.0.1', database: lone }), 'database'],
  ['a PostgreSQL URL', () => createPostgresBackend(`postgres://127.0.0.1:1/${lone}`), 'target'],
  ['a Firestore collection', () => createFirestoreBackend('firestore://p', { collection: lone }), 'collection'],
  ['a Firestore URL', () => createFirestoreBackend(`firestore://p/${lone}`), 'target']
]) {
  test(`a lone surrogate is refused in ${what}`, () => {
    assert.throws(make, invalid(new RegExp(`^${name} must be .*lone surrogate`)))
  })
}

test("a lone surrogate is refused in a guard's directory and name", async () => {
  await assert.rejects(guard(`/nowhere/${lone}`, 'name'), invalid(/^dir must be .*lone surrogate/))
  await assert.rejects(guard('/nowhere', lone), invalid(/^name must be .*lone surrogate/))
})

test('an option whose name holds a lone surrogate is an unknown option', () => {
  assert.throws(() => createFileBackend('/nowhere', { [`keyPrefix${lone}`]: 1 }), invalid(/unknown option/))
})
