// The versions of Node.js, the other runtimes, package managers and the test runner that the package is tried with. They are npm packages
// of binaries, pinned in runtimes/package-lock.json and kept below `target`.
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const pinned = fileURLToPath(new URL('runtimes', import.meta.url))
const here = fileURLToPath(new URL('../../target/runtimes', import.meta.url))
const program = (...path) => join(here, 'node_modules', ...path)

/** The binaries are those of Linux on x64 with glibc; elsewhere only the running Node.js is tried. */
export const others = process.platform === 'linux' && process.arch === 'x64' && process.report.getReport().header.glibcVersionRuntime !== undefined

/** Commands that run a file, by name. */
export const runtimes = { [`Node.js ${process.versions.node}`]: [process.execPath] }
export const pnpm = [process.execPath, program('pnpm', 'bin', 'pnpm.cjs')]
export const jest = program('jest', 'bin', 'jest.js')
/** The oldest that the package says it runs on. */
export const oldestNode = others ? program('node-20.0', 'bin', 'node') : undefined
if (others) {
  for (const major of ['22', '24']) {
    if (process.versions.node.split('.')[0] !== major) runtimes[`Node.js ${major}`] = [program(`node-${major}`, 'bin', 'node')]
  }
  runtimes.Bun = [program('@oven', 'bun-linux-x64', 'bin', 'bun')]
  runtimes.Deno = [program('@deno', 'linux-x64-glibc', 'deno'), 'run', '--allow-all']
}

/** Downloads what is not there yet. */
export function installRuntimes() {
  mkdirSync(here, { recursive: true })
  const lock = 'package-lock.json'
  const done = join(here, 'installed.json')
  if (existsSync(done) && readFileSync(done, 'utf8') === readFileSync(join(pinned, lock), 'utf8')) return
  for (const name of ['package.json', lock]) copyFileSync(join(pinned, name), join(here, name))
  // Packages that are only binaries of Linux on x64 can't be installed elsewhere, except by force; pnpm can.
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--cache', join(here, 'cache'), ...(others ? [] : ['--force'])]
  const install = () => execFileSync('npm', args, { cwd: here, stdio: ['ignore', 'ignore', 'inherit'] })
  try {
    install()
  } catch {
    install() // Registries drop connections; what has arrived is kept.
  }
  copyFileSync(join(here, lock), done)
}
