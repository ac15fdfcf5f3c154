// The package as users get it: packed, installed without scripts and without a toolchain, used from ES modules,
// CommonJS and TypeScript.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { skipWithout } from '../support/needs.mjs'
import { temporaryDirectory } from '../support/server-process.mjs'
import { RedisServer } from '../support/servers.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const projects = fileURLToPath(new URL('projects', import.meta.url))
const { name, version, napi } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
// Only Node itself is on the path: no Rust, no compilers.
const bare = { PATH: temporaryPath(), HOME: process.env.HOME, npm_config_userconfig: process.env.npm_config_userconfig }

function temporaryPath() {
  const dir = temporaryDirectory('bin')
  for (const program of ['node', 'npm', 'npx', 'sh', 'env']) {
    const found = process.env.PATH.split(':').map((each) => join(each, program)).find((path) => spawnSync(path, ['--version']).error === undefined)
    if (found) symlinkSync(found, join(dir, program))
  }
  return dir
}

function npm(cwd, ...args) {
  return execFileSync('npm', [...args, '--no-audit', '--no-fund'], { cwd, encoding: 'utf8', env: Object.fromEntries(Object.entries(bare).filter(([, value]) => value)) })
}

/** What of this machine's binary there is: the platform and the file. */
function binary() {
  const files = readdirSync(join(root, 'npm')).map((platform) => ({ platform, file: `${napi.binaryName}.${platform}.node` }))
  const built = files.find(({ file }) => existsSync(join(root, file)))
  assert.ok(built, 'no addon was built: npm run build:native')
  return built
}

/** Packs both packages as a release would, and answers the paths of the tarballs. */
function pack(dir) {
  const { file, platform } = binary()
  const platformDir = join(dir, platform)
  cpSync(join(root, 'npm', platform), platformDir, { recursive: true })
  copyFileSync(join(root, file), join(platformDir, file))
  const tarball = (from) => join(dir, JSON.parse(npm(from, 'pack', '--json', '--pack-destination', dir))[0].filename)
  return { main: tarball(root), platform: tarball(platformDir), platformName: `${name}-${platform}` }
}

describe('the installed package', { skip: skipWithout('redis') }, () => {
  const dir = temporaryDirectory('consumer')
  const project = join(dir, 'project')
  let packed, server

  before(async () => {
    packed = pack(dir)
    cpSync(projects, project, { recursive: true })
    writeFileSync(join(project, 'package.json'), '{ "name": "consumer", "private": true }')
    npm(project, 'install', '--ignore-scripts', '--offline', packed.main, packed.platform)
    server = await RedisServer.start()
  })
  after(() => server?.stop())

  const node = (...args) => execFileSync(process.execPath, args, { cwd: project, encoding: 'utf8', env: { ...bare, REDIS_URL: server.url } })

  test('holds what it needs and nothing else', () => {
    const { files } = JSON.parse(npm(root, 'pack', '--dry-run', '--json'))[0]
    const paths = files.map(({ path }) => path)
    for (const needed of ['package.json', 'native.cjs', 'index.d.ts', 'dist/index.js', 'dist/index.mjs', 'dist/redis.d.ts', 'LICENSE']) {
      assert.ok(paths.includes(needed), `${needed} is missing`)
    }
    for (const path of paths) {
      assert.ok(!/\.node$|^(src|ts|scripts|__test__|target|benches)\/|Cargo|\.ts$(?<!\.d\.ts)/.test(path), `${path} should not be packed`)
    }
    const manifest = JSON.parse(readFileSync(join(project, 'node_modules', name, 'package.json'), 'utf8'))
    for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) assert.equal(manifest.scripts?.[script], undefined)
    assert.deepEqual(manifest.dependencies ?? {}, {})
  })

  test('runs as an ES module', () => assert.equal(node('module.mjs').trim(), 'esm: inside'))

  test('runs as CommonJS', () => assert.equal(node('common.cjs').trim(), 'cjs: inside'))

  for (const resolution of ['nodenext', 'bundler']) {
    test(`type-checks and runs as TypeScript (${resolution})`, () => {
      const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
      const types = join(root, 'node_modules', '@types')
      const result = spawnSync(process.execPath, [tsc, '-p', `tsconfig.${resolution}.json`, '--typeRoots', types], { cwd: project, encoding: 'utf8' })
      assert.equal(result.status, 0, result.stdout)
      if (resolution === 'nodenext') assert.equal(node('out/typed.mjs').trim(), 'ts: inside')
    })
  }

  test('without its platform package it says what to install', () => {
    const platform = join(project, 'node_modules', packed.platformName)
    renameSync(platform, `${platform}-away`)
    try {
      const { status, stderr } = spawnSync(process.execPath, ['common.cjs'], { cwd: project, encoding: 'utf8', env: { ...bare, REDIS_URL: server.url } })
      assert.notEqual(status, 0)
      assert.ok(stderr.includes(packed.platformName), `the missing package is named: ${stderr}`)
    } finally {
      renameSync(`${platform}-away`, platform)
    }
  })

  test('there is a manifest for every platform, of this version', () => {
    const platforms = readdirSync(join(root, 'npm'))
    assert.equal(platforms.length, napi.targets.length)
    for (const platform of platforms) {
      const manifest = JSON.parse(readFileSync(join(root, 'npm', platform, 'package.json'), 'utf8'))
      assert.deepEqual([manifest.name, manifest.version], [`${name}-${platform}`, version])
    }
  })
})
