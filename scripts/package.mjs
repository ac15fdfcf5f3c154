// npm run package: the packages as they are released, packed into target/packages: the main one, which names all
// platform packages as optional dependencies, and a platform package for each binary that was built. With
// --every-platform a missing binary is an error.
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { heading, main, root, run } from './run.mjs'

const read = (path) => JSON.parse(readFileSync(path, 'utf8'))
const out = join(root, 'target', 'packages')
const staging = join(root, 'target', 'staging')

/** What npm's provenance compares with the repository of the workflow that publishes. */
function repository() {
  const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env
  return GITHUB_REPOSITORY && { repository: { type: 'git', url: `git+${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}.git` } }
}

function stage(name, manifest, files) {
  const dir = join(staging, name)
  for (const [path, from] of files) {
    mkdirSync(dirname(join(dir, path)), { recursive: true })
    copyFileSync(from, join(dir, path))
  }
  writeFileSync(join(dir, 'package.json'), `${JSON.stringify({ ...manifest, ...repository() }, null, 2)}\n`)
  run('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', out, dir])
}

await main(async () => {
  for (const dir of [out, staging]) rmSync(dir, { recursive: true, force: true })
  mkdirSync(out, { recursive: true })
  const { name, version, napi, scripts, devDependencies, overrides, ...published } = read(join(root, 'package.json'))
  const platforms = readdirSync(join(root, 'npm'))
  heading('packages')

  for (const platform of platforms) {
    const from = join(root, 'npm', platform)
    const binary = `${napi.binaryName}.${platform}.node`
    if (existsSync(join(root, binary))) {
      const files = [
        ['README.md', join(from, 'README.md')],
        ['LICENSE', join(root, 'LICENSE')],
        [binary, join(root, binary)]
      ]
      stage(platform, read(join(from, 'package.json')), files)
    } else if (process.argv.includes('--every-platform')) {
      throw new Error(`${binary} is missing`)
    }
  }

  const [packed] = JSON.parse(run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { quiet: true }))
  const files = packed.files.map(({ path }) => path).filter((path) => path !== 'package.json')
  const optionalDependencies = Object.fromEntries(platforms.map((platform) => [`${name}-${platform}`, version]))
  // The targets stay: an error message lists them.
  const manifest = { name, version, ...published, napi: { targets: napi.targets }, optionalDependencies }
  stage(
    'main',
    manifest,
    files.map((path) => [path, join(root, path)])
  )
  rmSync(staging, { recursive: true })
})
