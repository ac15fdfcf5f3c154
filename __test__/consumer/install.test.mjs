// The package as users get it: packed as for a release, installed from a registry by npm and pnpm without scripts and
// without a toolchain, the examples of its README and guides run as they stand by every runtime, its types checked.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { skipWithout } from '../support/needs.mjs'
import { Registry } from '../support/registry.mjs'
import { LAST_LINE } from './last-lines.mjs'
import { Project, allExamples, root } from './project.mjs'
import { installRuntimes, pnpm, runtimes } from './runtimes.mjs'
import { skipExample, startStores } from './stores.mjs'

const projects = fileURLToPath(new URL('projects', import.meta.url))
const { name, version, napi } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const platforms = readdirSync(join(root, 'npm'))
const manifests = platforms.map((platform) => JSON.parse(readFileSync(join(root, 'npm', platform, 'package.json'), 'utf8')))
const packages = join(root, 'target', 'packages')
const node = [process.execPath]

describe('the packed package', { skip: skipWithout('redis'), concurrency: 1 }, () => {
  let registry, stores, byNpm, byPnpm, binary, urls

  before(async () => {
    execFileSync(process.execPath, [join(root, 'scripts', 'package.mjs')], { stdio: ['ignore', 'ignore', 'inherit'] })
    installRuntimes()
    registry = await Registry.start(packages, manifests)
    const built = readdirSync(packages).map((file) => platforms.find((platform) => file === `${name}-${platform}-${version}.tgz`))
    binary = `${name}-${built.find(Boolean)}`
    stores = await startStores()
    urls = stores.env

    byNpm = new Project('npm', registry)
    await byNpm.output(['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', name])
    byPnpm = new Project('pnpm', registry)
    await byPnpm.output([...pnpm, 'add', '--ignore-scripts', name])
    for (const project of [byNpm, byPnpm]) {
      project.lend('ioredis')
      project.copy(projects)
      project.write(allExamples())
    }
  })
  after(async () => {
    registry?.stop()
    await stores?.stop()
  })

  test('holds what it needs and nothing else', () => {
    const tarball = (file) =>
      execFileSync('tar', ['-tzf', join(packages, file)], { encoding: 'utf8' })
        .trim()
        .split('\n')
        .map((path) => path.replace('package/', ''))
    const paths = tarball(`${name}-${version}.tgz`)
    for (const needed of ['package.json', 'README.md', 'LICENSE', 'native.cjs', 'index.d.ts', 'dist/index.js', 'dist/index.mjs', 'dist/redis.d.ts', 'docs/redis.md']) {
      assert.ok(paths.includes(needed), `${needed} is missing`)
    }
    for (const path of paths.filter((path) => !path.startsWith('docs/examples/'))) {
      assert.ok(!/\.node$|^(src|ts|scripts|__test__|target|benches|docs\/api)\/|Cargo|\.ts$(?<!\.d\.ts)/.test(path), `${path} should not be packed`)
    }
    assert.deepEqual(tarball(`${binary}-${version}.tgz`).sort(), ['LICENSE', 'README.md', 'package.json', `${name}.${binary.slice(name.length + 1)}.node`].sort())
  })

  test('runs nothing at install, depends on nothing but its binaries', () => {
    for (const { manifest } of registry.packages.values()) {
      for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) assert.equal(manifest.scripts?.[script], undefined)
      assert.deepEqual(manifest.dependencies ?? {}, {})
    }
    const expected = Object.fromEntries(platforms.map((platform) => [`${name}-${platform}`, version]))
    assert.deepEqual(registry.packages.get(name).manifest.optionalDependencies, expected)
    assert.equal(platforms.length, napi.targets.length)
    assert.deepEqual(
      manifests.map((manifest) => [manifest.name, manifest.version]),
      Object.entries(expected)
    )
  })

  test('of the platform packages only the one of this machine is installed', () => {
    const ours = (dir) =>
      readdirSync(dir)
        .filter((entry) => entry.startsWith(name))
        .map((entry) => entry.split('@')[0])
        .sort()
    assert.deepEqual(ours(join(byNpm.dir, 'node_modules')), [name, binary])
    assert.deepEqual(ours(join(byPnpm.dir, 'node_modules', '.pnpm')), [name, binary])
  })

  for (const [manager, project] of Object.entries({ npm: () => byNpm, pnpm: () => byPnpm })) {
    describe(`by ${manager}`, () => {
      test('runs as an ES module', async () => assert.equal(await project().output([...node, 'module.mjs'], urls), 'esm: inside'))
      test('runs as CommonJS', async () => assert.equal(await project().output([...node, 'common.cjs'], urls), 'cjs: inside'))

      for (const resolution of ['nodenext', 'bundler']) {
        test(`type-checks as TypeScript (${resolution})`, async () => {
          const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
          await project().output([...node, tsc, '-p', `tsconfig.${resolution}.json`, '--typeRoots', join(root, 'node_modules', '@types')])
          if (resolution === 'bundler') return // Its output is for a bundler.
          assert.equal(await project().output([...node, 'out/typed.mjs'], urls), 'ts: inside')
          assert.match(await project().output([...node, 'out/handle.mjs']), LAST_LINE['handle.mts'])
        })
      }
    })
  }

  for (const [runtime, command] of Object.entries(runtimes)) {
    describe(`the examples, by ${runtime}`, () => {
      for (const example of Object.keys(allExamples())) {
        const typeless = /^Node\.js (20|22)/.test(runtime) && example.endsWith('ts')
        const skip = typeless ? 'it knows no `await using`; what tsc makes of this is run above' : skipExample(example)
        test(example, { skip }, async () => {
          const printed = await byNpm.output([...command, example], urls)
          assert.match(printed.split('\n').at(-1), LAST_LINE[example])
        })
      }
    })
  }

  for (const [what, file] of Object.entries({ 'ES module': 'module.mjs', CommonJS: 'common.cjs' })) {
    test(`without its platform package it says what to install (${what})`, async () => {
      const installed = join(byNpm.dir, 'node_modules', binary)
      renameSync(installed, join(byNpm.home, 'away'))
      try {
        const { status, stderr } = await byNpm.run([...node, file], urls)
        assert.equal(status, 1)
        assert.ok(stderr.includes(`install ${binary}@${version}`), stderr)
      } finally {
        renameSync(join(byNpm.home, 'away'), installed)
      }
    })
  }
})
