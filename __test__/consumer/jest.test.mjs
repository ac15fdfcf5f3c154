// jest gives every test file a registry of modules and a context of its own, in one process: a copy of the package each.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { temporaryDirectory } from '../support/server-process.mjs'
import { root } from './project.mjs'
import { installRuntimes, jest } from './runtimes.mjs'

const FILES = 9
/** What each test file holds in memory, for as long as anything leads to it. */
const BALLAST = 8e6

const testFile = (i) => `
const { createBackend, lock, LockError } = require('syncguard')
const { FileLock } = require('syncguard/file')
const ballast = Array.from({ length: ${BALLAST / 8} }, (_, i) => i + 0.5)
const lost = (backend, key) => new Promise((resolve) => {
  backend.acquire({ key, ttlMs: 200, onLeaseLost: (error) => resolve([error, ballast.length]) })
})
let backend
beforeAll(async () => { backend = await createBackend('file:' + process.env.LOCKS) })
afterEach(() => jest.useRealTimers())

test('hears of its own loss', async () => {
  const [error] = await lost(backend, 'lost-${i}')
  expect(error).toBeInstanceOf(LockError)
  expect(error.code).toBe('LeaseLost')
})
test('another copy in the same file takes nothing away', async () => {
  const first = lost(backend, 'first-${i}')
  jest.resetModules()
  const other = require('syncguard')
  expect(other.LockError).not.toBe(LockError)
  const second = lost(await other.createBackend('file:' + process.env.LOCKS), 'second-${i}')
  expect((await first)[0]).toBeInstanceOf(LockError)
  expect((await second)[0]).toBeInstanceOf(other.LockError)
})
test('locks, also with fake timers and on a lease file, and leaves a lock behind', async () => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate'] })
  const { signal } = new AbortController()
  expect(await lock(backend, (held) => held.isValid(), { key: 'k-${i}', signal })).toBe(true)
  const file = await new FileLock(process.env.LOCKS + '/lease-${i}').acquire()
  expect(Symbol.asyncDispose in file).toBe(true)
  await file[Symbol.asyncDispose]()
  await backend.acquire({ key: 'left-${i}', ttlMs: 60000 })
})
`

const reporter = `
module.exports = class {
  heaps = []
  async onTestFileResult() {
    for (let i = 0; i < 4; i++) { await new Promise((resolve) => setTimeout(resolve, 30)); gc() }
    this.heaps.push(process.memoryUsage().heapUsed)
  }
  onRunComplete() { require('node:fs').writeFileSync(process.env.HEAPS, JSON.stringify(this.heaps)) }
}`

describe('under jest', () => {
  let home
  before(() => {
    installRuntimes()
    home = temporaryDirectory('jest')
    for (const name of ['tests', 'node_modules']) mkdirSync(join(home, name))
    symlinkSync(root, join(home, 'node_modules', 'syncguard'))
    writeFileSync(join(home, 'package.json'), '{ "name": "tested", "private": true }')
    writeFileSync(join(home, 'reporter.js'), reporter)
    const config = {
      testEnvironment: 'node',
      roots: ['<rootDir>/tests'],
      transform: {},
      reporters: ['default', '<rootDir>/reporter.js'],
      cacheDirectory: join(home, 'cache'),
      watchman: false
    }
    writeFileSync(join(home, 'jest.config.json'), JSON.stringify(config))
    for (let i = 0; i < FILES; i++) writeFileSync(join(home, 'tests', `t${i}.test.js`), testFile(i))
  })
  after(() => rmSync(home, { recursive: true, force: true }))

  test(`${FILES} test files in one process: each hears of its own locks, and none stays in memory`, () => {
    const heaps = join(home, 'heaps.json')
    const env = { ...process.env, LOCKS: join(home, 'locks'), HEAPS: heaps, NODE_OPTIONS: '' }
    execFileSync(process.execPath, ['--expose-gc', jest, '--runInBand', '--config', join(home, 'jest.config.json')], {
      cwd: home,
      env,
      timeout: 120_000,
      stdio: ['ignore', 'pipe', 'pipe']
    })
    const grown = JSON.parse(readFileSync(heaps, 'utf8'))
    assert.equal(grown.length, FILES)
    // Jest itself keeps something of each file; what is ours to keep would be more than each one's ballast.
    const perFile = (grown[FILES - 1] - grown[1]) / (FILES - 2)
    assert.ok(perFile < BALLAST / 2, `${perFile} bytes a file: ${grown}`)
  })
})
