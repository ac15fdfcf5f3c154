// What the README and the guides show is what runs: each example is a file, shown as it stands.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { temporaryDirectory } from '../support/server-process.mjs'
import { LAST_LINE } from './last-lines.mjs'
import { skipExample, startStores } from './stores.mjs'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const examples = join(root, 'docs', 'examples')
const pages = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'SECURITY.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`)
]

describe('examples', { concurrency: 1 }, () => {
  let stores
  let env

  before(async () => {
    const directory = temporaryDirectory('examples')
    stores = await startStores()
    env = { ...process.env, ...stores.env, TMPDIR: directory, SYNCGUARD_DIR: join(directory, 'locks') }
    delete env.NODE_OPTIONS
  })
  after(() => stores?.stop())

  test('each one has a line to tell by', () => {
    assert.deepEqual(
      readdirSync(examples)
        .filter((name) => /\.[cm]?[jt]s$/.test(name))
        .sort(),
      Object.keys(LAST_LINE).sort()
    )
  })

  for (const [name, lastLine] of Object.entries(LAST_LINE)) {
    test(name, { skip: skipExample(name) }, async () => {
      const file = name.endsWith('ts') ? await compiled(name) : join(examples, name)
      const { stdout, stderr } = await run(process.execPath, [file], { env, cwd: root, timeout: 30_000 })
      assert.match(stdout.trimEnd().split('\n').at(-1), lastLine)
      assert.equal(stderr, '')
    })
  }

  /** As TypeScript users compile it, also for versions of Node.js that know no `await using`. */
  async function compiled(name) {
    const out = join(root, 'target', 'examples')
    const options = ['--target', 'es2022', '--lib', 'es2022,esnext.disposable', '--module', 'nodenext', '--strict', '--types', 'node']
    await run(join(root, 'node_modules', '.bin', 'tsc'), [...options, '--rootDir', examples, '--outDir', out, join(examples, name)], { cwd: root })
    return join(out, name.replace(/ts$/, 'js'))
  }
})

describe('pages', () => {
  for (const page of pages) {
    const text = readFileSync(join(root, page), 'utf8')

    test(`${page} shows the examples as they are`, () => {
      const shown = [...text.matchAll(/<!-- docs\/examples\/(\S+) -->\n```(?:js|ts)\n([\s\S]*?)```\n/g)]
      assert.equal(shown.length, [...text.matchAll(/<!-- docs\/examples\//g)].length, 'every mark stands before a block of code')
      // Without the line that says what the file is: the page does.
      for (const [, name, code] of shown) assert.equal(code, readFileSync(join(examples, name), 'utf8').replace(/^\/\/ .*\n/, ''), name)
    })

    test(`${page} links to files that are there`, () => {
      for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
        assert.ok(existsSync(join(root, page, '..', target)), `${target} is missing`)
      }
    })
  }

  test('the README links to every guide', () => {
    const readme = readFileSync(join(root, 'README.md'), 'utf8')
    for (const page of pages.filter((page) => page !== 'README.md' && page !== 'CHANGELOG.md')) assert.ok(readme.includes(`](${page})`), page)
  })
})
