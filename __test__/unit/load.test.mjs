// Which binary the loader asks for on which machine, and what is said when there is none. The loader is generated:
// it runs here as it is, in a machine made of its own inputs.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { describe, test } from 'node:test'

const require = createRequire(import.meta.url)
const { loadAddon, thisPlatform } = require('../../dist/load.js')
const manifest = require('../../package.json')
const loader = readFileSync(new URL('../../native.cjs', import.meta.url), 'utf8')

const glibcReport = { header: { glibcVersionRuntime: '2.36' }, sharedObjects: ['/lib/x86_64-linux-gnu/libc.so.6'] }
const muslReport = { header: {}, sharedObjects: ['/lib/ld-musl-x86_64.so.1'] }
const linux = (arch, report, ldd) => ({ platform: 'linux', arch, report: { getReport: () => report }, ldd })

const MACHINES = {
  'linux-x64-gnu': [linux('x64', glibcReport, 'GNU C Library'), linux('x64', glibcReport)],
  'linux-arm64-gnu': [linux('arm64', glibcReport, 'GNU C Library'), linux('arm64', glibcReport)],
  'linux-x64-musl': [linux('x64', muslReport, 'musl libc'), linux('x64', muslReport)],
  'linux-arm64-musl': [linux('arm64', muslReport, 'musl libc'), linux('arm64', muslReport)],
  'darwin-arm64': [{ platform: 'darwin', arch: 'arm64' }],
  'darwin-x64': [{ platform: 'darwin', arch: 'x64' }],
  'win32-x64-msvc': [{ platform: 'win32', arch: 'x64' }]
}

/** Runs the loader on a machine where nothing is installed; answers the packages that it asked for, and its error. */
function load({ platform, arch, report, ldd }) {
  const asked = []
  const modules = {
    fs: {
      readFileSync(path) {
        if (path === '/usr/bin/ldd' && ldd !== undefined) return ldd
        throw new Error('ENOENT')
      }
    },
    child_process: { execSync: () => assert.fail('the report is enough') }
  }
  const find = (name) => {
    if (name in modules) return modules[name]
    if (name.startsWith('syncguard-') && !name.endsWith('.json')) asked.push(name.slice('syncguard-'.length))
    throw Object.assign(new Error(`Cannot find module '${name}'\nRequire stack:\n- native.cjs`), { code: 'MODULE_NOT_FOUND' })
  }
  find.resolve = find
  const process = { platform, arch, report, env: {}, config: { variables: {} }, versions: {} }
  const module = { exports: {} }
  try {
    new Function('require', 'process', 'module', 'exports', '__dirname', loader)(find, process, module, module.exports, '/')
  } catch (error) {
    return { asked, error }
  }
  assert.fail('something was loaded')
}

/** Loads an addon that throws, on a platform. */
const failing = (error, platform) => () =>
  loadAddon(
    () => {
      throw error
    },
    manifest,
    () => platform
  )

describe('the loader asks for the binary of this machine', () => {
  for (const [platform, machines] of Object.entries(MACHINES)) {
    for (const machine of machines) {
      test(`${platform} (${machine.ldd ?? (machine.report ? 'no ldd' : 'no libc to tell')})`, () => {
        const { asked, error } = load(machine)
        assert.ok(asked.includes(platform), `asked for ${asked}`)
        const other = platform.endsWith('-musl') ? '-gnu' : '-musl'
        assert.ok(!asked.some((name) => name.endsWith(other)), `asked for ${asked}`)
        assert.equal(thisPlatform(machine), platform)

        assert.throws(failing(error, thisPlatform(machine)), {
          code: 'ERR_SYNCGUARD_BINARY',
          cause: error,
          message: new RegExp(`^syncguard is installed without its binary for ${platform}: install syncguard-${platform}@${manifest.version}\\b`)
        })
      })
    }
  }

  test('there is such a row for every platform', () => {
    assert.deepEqual(Object.keys(MACHINES).length, manifest.napi.targets.length)
  })
})

test('a platform without a binary is told which ones there are', () => {
  const { error } = load(linux('riscv64', glibcReport, 'GNU C Library'))
  assert.throws(failing(error, thisPlatform(linux('riscv64', glibcReport))), {
    message:
      'syncguard has no binary for linux-riscv64-gnu; it has one for linux-x64-gnu, linux-arm64-gnu, linux-x64-musl, ' +
      'linux-arm64-musl, darwin-x64, darwin-arm64, win32-x64-msvc'
  })
})

test('a binary that does not load is told from one that is missing', () => {
  const tooOld = new Error("/lib/libc.so.6: version `GLIBC_2.28' not found")
  const error = new Error('Cannot find native binding.', { cause: new Error("Cannot find module 'x'", { cause: tooOld }) })
  assert.throws(failing(error, 'linux-x64-gnu'), {
    message: `the binary of syncguard for linux-x64-gnu does not load (${tooOld.message}); reinstall syncguard-linux-x64-gnu@${manifest.version}`
  })
})

test('an addon that loads is handed on', () =>
  assert.equal(
    loadAddon(() => 7, manifest),
    7
  ))
