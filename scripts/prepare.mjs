// What has to be there before anything runs: the packages, the addon, the compiled TypeScript. Makes only what is missing or stale.
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { exists, heading, root, run, runPersistently } from './run.mjs'

/** When a file, or the newest file below a folder, changed; 0 when there is none. */
function changed(...names) {
  return Math.max(0, ...names.filter(exists).map((name) => newest(join(root, name))))
}

function newest(path) {
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.mtimeMs
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))))
}

export function installPackages() {
  if (changed('node_modules/.package-lock.json') >= changed('package-lock.json')) return
  heading('npm ci')
  runPersistently('npm', ['ci', '--no-audit', '--no-fund'])
}

/** The crates of this platform, so that a registry that stumbles is not a build that fails. */
export function fetchCrates() {
  const [, host] = /^host: (\S+)$/m.exec(run('rustc', ['-vV'], { quiet: true }))
  runPersistently('cargo', ['fetch', '--locked', '--quiet', '--target', host], { env: { CARGO_NET_RETRY: '10' } })
}

const addons = () => readdirSync(root).filter((name) => /^syncguard\..+\.node$/.test(name))

/** Builds the addon as users get it. Cargo knows best what is stale. */
export function buildRelease() {
  heading('the addon, as it is shipped (the first time takes some minutes)')
  run('npm', ['run', '--silent', 'build:native'])
}

/** Any addon that is newer than its sources; else a debug build, which takes a third of the time. */
export function buildAnyAddon() {
  const sources = changed('src', 'Cargo.toml', 'Cargo.lock')
  if (addons().length > 0 && changed(...addons()) >= sources) return
  heading('the addon (a debug build; the first time takes a minute or two)')
  run('npm', ['run', '--silent', 'build:native:debug'])
}

export function buildTypeScript() {
  const sources = changed('ts', 'tsconfig.json', 'package.json', 'scripts/esm.mjs', 'scripts/index-types.mjs')
  if (changed('dist/index.mjs') >= sources && changed('dist/index.js') >= sources) return
  heading('TypeScript')
  run('npm', ['run', '--silent', 'build:ts'])
}
