// Running the commands that make up a build or a check.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** PATH with the project's own tools and, since not every shell has it there, Cargo. */
const path = [join(root, 'node_modules', '.bin'), process.env.PATH ?? '', join(homedir(), '.cargo', 'bin')].join(delimiter)
export const environment = { ...process.env, PATH: path }

export const heading = (text) => console.log(`\n== ${text}`)

/**
 * Runs a command of the project, its output on the screen; `quiet`: only when it fails; `output: 'answered'`: what it
 * writes to standard output is the answer. Throws when it fails.
 */
export function run(command, args, { env, quiet = false, output } = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    env: { ...environment, ...env },
    stdio: ['ignore', quiet || output ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'],
    encoding: 'utf8',
    maxBuffer: 1 << 28
  })
  if (result.error?.code === 'ENOENT') throw new Error(`${command} was not found${HINTS[command] ?? ''}`)
  if (result.status === 0) return result.stdout ?? ''
  if (quiet) process.stderr.write(`${result.stdout}${result.stderr}`)
  throw new Error(`${[command, ...args].join(' ')} ${result.signal ? `was ended by ${result.signal}` : `failed (${result.status})`}`)
}

/** As run(), some times over when it fails: for what fetches, since registries drop connections. */
export function runPersistently(command, args, { attempts = 3, ...options } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return run(command, args, options)
    } catch (error) {
      if (attempt === attempts) throw error
      console.error(`${error.message}; once more`)
    }
  }
}

/** As run(), while this process goes on: for commands that use servers of ours. */
export function runAlongside(command, args, { env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env: { ...environment, ...env }, stdio: ['ignore', 'inherit', 'inherit'] })
    child.once('error', reject)
    child.once('exit', (status, signal) => (status === 0 ? resolve() : reject(new Error(`${command} failed (${signal ?? status})`))))
  })
}

const HINTS = { cargo: ': building the addon needs Rust, see https://rustup.rs' }

/** Runs a script's main function; a failure is one line, not a stack. */
export async function main(work) {
  try {
    await work()
  } catch (error) {
    console.error(`\n${error.message}`)
    process.exitCode = 1
  }
}

export const exists = (name) => existsSync(join(root, name))
