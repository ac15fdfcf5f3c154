// A user's empty directory, with a PATH that has Node.js and its package managers on it and nothing else.
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findProgram } from '../support/needs.mjs'
import { temporaryDirectory } from '../support/server-process.mjs'

export const root = fileURLToPath(new URL('../..', import.meta.url))

const directory = join(root, 'docs', 'examples')

/** Every example, by name: as the README shows it, or else as its file is. */
export function allExamples() {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const shown = [...readme.matchAll(/<!-- docs\/examples\/(\S+) -->\n```(?:js|ts)\n([\s\S]*?)```\n/g)].map(([, name, code]) => [name, code])
  const files = readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'utf8')])
  return Object.fromEntries([...files, ...shown])
}

export class Project {
  constructor(label, registry) {
    this.home = temporaryDirectory(label)
    this.dir = join(this.home, 'project')
    const bin = join(this.home, 'bin')
    for (const dir of [this.dir, bin]) mkdirSync(dir)
    for (const program of ['node', 'npm', 'sh', 'env']) symlinkSync(findProgram(program), join(bin, program))
    writeFileSync(join(this.dir, 'package.json'), '{ "name": "consumer", "private": true }')
    writeFileSync(join(this.dir, '.npmrc'), `registry=${registry.url}\ncache=${join(this.home, 'cache')}\nstore-dir=${join(this.home, 'store')}\nupdate-notifier=false\n`)
    this.env = { PATH: bin, HOME: this.home, TMPDIR: this.home, SYNCGUARD_DIR: join(this.home, 'locks'), DENO_DIR: join(this.home, 'deno') }
  }

  write(files) {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.dir, name), text)
  }

  copy(directory) {
    cpSync(directory, this.dir, { recursive: true })
  }

  /** A package of the repository, for an example that has it beside syncguard. */
  lend(name) {
    symlinkSync(join(root, 'node_modules', name), join(this.dir, 'node_modules', name))
  }

  /** Not synchronous: the process of the test is the registry, too. Answers also when the command fails. */
  run([command, ...args], env) {
    return new Promise((resolve) => {
      const options = { cwd: this.dir, env: { ...this.env, ...env }, timeout: 60_000, maxBuffer: 1 << 26 }
      execFile(command, args, options, (error, stdout, stderr) => resolve({ status: error === null ? 0 : (error.code ?? 'timeout'), stdout, stderr }))
    })
  }

  /** As run(), for what has to succeed; answers what it printed. */
  async output(command, env) {
    const { status, stdout, stderr } = await this.run(command, env)
    if (status !== 0) throw new Error(`${command.join(' ')} failed (${status}):\n${stdout}\n${stderr}`)
    return stdout.trimEnd()
  }
}
