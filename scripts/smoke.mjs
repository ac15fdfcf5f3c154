// Installs the packages of target/packages as a user does, into an empty directory, and locks something: on each
// platform before a release. Needs Node.js and npm only. SYNCGUARD_PLATFORM says which platform package has to come along.
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Registry } from '../__test__/support/registry.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const project = mkdtempSync(join(tmpdir(), 'syncguard-smoke-'))
const env = { ...process.env, SYNCGUARD_URL: '', SYNCGUARD_DIR: join(project, 'locks'), npm_config_cache: join(project, 'cache') }
const [command, ...prefix] = process.platform === 'win32' ? ['cmd', '/d', '/c', 'npm'] : ['npm']

const registry = await Registry.start(join(root, 'target', 'packages'))
try {
  writeFileSync(join(project, 'package.json'), '{ "name": "empty", "private": true }')
  mkdirSync(env.SYNCGUARD_DIR, { mode: 0o700 })
  // Not synchronously: this process answers as the registry meanwhile.
  const install = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--registry', registry.url, 'syncguard']
  await promisify(execFile)(command, [...prefix, ...install], { cwd: project, env })
  const installed = readdirSync(join(project, 'node_modules')).filter((name) => name.startsWith('syncguard'))
  if (process.env.SYNCGUARD_PLATFORM) assert.deepEqual(installed.sort(), ['syncguard', `syncguard-${process.env.SYNCGUARD_PLATFORM}`])
  for (const [name, line] of Object.entries({ 'quickstart.mjs': /^inside, with fence \d{15}$/, 'commonjs.cjs': /^inside$/ })) {
    writeFileSync(join(project, name), readFileSync(join(root, 'docs', 'examples', name)))
    assert.match(execFileSync(process.execPath, [name], { cwd: project, env, encoding: 'utf8' }).trim(), line)
  }
  console.log(`${installed.join(' and ')}: installed, loaded and used by Node.js ${process.version} on ${process.platform} ${process.arch}`)
} finally {
  registry.stop()
  rmSync(project, { recursive: true, force: true })
}
