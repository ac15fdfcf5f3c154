// Every entry exports exactly what the contract lists, by import and by require, from one implementation.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'

const require = createRequire(import.meta.url)

const helpers = [
  'lock',
  'LockError',
  'withTelemetry',
  'getByKey',
  'getByKeyRaw',
  'getById',
  'getByIdRaw',
  'owns',
  'hasFence',
  'sanitizeLockInfo',
  'acquireHandle',
  'decorateAcquireResult',
  'normalizeAndValidateKey',
  'validateLockId',
  'generateLockId',
  'hashKey',
  'makeStorageKey',
  'isLive',
  'calculateRedisServerTimeMs',
  'BACKEND_DEFAULTS',
  'LOCK_DEFAULTS',
  'BACKEND_LIMITS',
  'RESERVE_BYTES',
  'FENCE_THRESHOLDS',
  'MAX_KEY_LENGTH_BYTES',
  'TIME_TOLERANCE_MS'
]
const entries = {
  syncguard: ['createBackend', 'createLock', ...helpers],
  'syncguard/common': [
    ...helpers,
    'createAutoLock',
    'createDisposableHandle',
    'attachRawData',
    'formatFence',
    'logFenceWarning',
    'checkAborted',
    'delay',
    'mergeBackendConfig',
    'mergeAcquisitionConfig',
    'FAILURE_REASON',
    'mapToMutationResult',
    'mapRedisScriptResult',
    'mapFirestoreConditions',
    'mapBackendObservation'
  ],
  'syncguard/redis': ['createLock', 'createRedisBackend'],
  'syncguard/postgres': ['createLock', 'createPostgresBackend', 'setupSchema'],
  'syncguard/firestore': ['createFirestoreBackend', 'createLock'],
  'syncguard/file': ['createLock', 'createFileBackend', 'FileLock'],
  'syncguard/pid': ['guard']
}

for (const [entry, names] of Object.entries(entries)) {
  test(`${entry} exports what it should, the same things either way`, async () => {
    const imported = await import(entry)
    const required = require(entry)
    assert.deepEqual(Object.keys(imported).sort(), [...names].sort())
    assert.deepEqual(Object.keys(required).sort(), [...names].sort())
    for (const name of names) assert.equal(imported[name], required[name], name)
  })
}

test('there is no other entry', () => {
  const { exports } = require('syncguard/package.json')
  const known = Object.keys(entries).map((entry) => entry.replace('syncguard', '.'))
  assert.deepEqual(Object.keys(exports).sort(), [...known, './package.json'].sort())
})

const load = 'const { hashKey } = require("syncguard");'
const hash = '0000006100000123000002a7'

test('loading it does not keep the process alive', () => {
  const child = spawnSync(process.execPath, ['-e', `${load} console.log(hashKey("a"))`], { encoding: 'utf8', timeout: 20000 })
  assert.equal(child.status, 0, child.stderr)
  assert.equal(child.stdout.trim(), hash)
})

test('worker threads can load it and end', async () => {
  for (let i = 0; i < 3; i++) {
    const worker = new Worker(`${load} require("node:worker_threads").parentPort.postMessage(hashKey("a"))`, { eval: true })
    const [[message], [status]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.equal(message, hash)
    assert.equal(status, 0)
  }
})
