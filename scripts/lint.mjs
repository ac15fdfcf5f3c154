// npm run lint: formats, lints, and the invariants that a command can check. Runs them all and names those that fail.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { installPackages } from './prepare.mjs'
import { heading, main, root, run } from './run.mjs'

/** Where a pause may stand: the engine's loop, its late undo, the reconnecting of a store's own connection task, and code for tests. */
const MAY_SLEEP = [
  /^src\/engine\/(attempt|search|undo)\.rs$/,
  /^src\/\w+\/(connection|link|dial|listener|watcher)\.rs$/,
  // Others are just removing a claim: some milliseconds, on a thread for blocking work.
  /^src\/(guard\/mod|lease_file\/(acquire|lease))\.rs$/,
  /^src\/(conformance|memory)\//,
  /(^|[/_])tests?(\/|\.rs$)/
]

function sourcesWithSleep() {
  return readdirSync(join(root, 'src'), { recursive: true })
    .map((name) => join('src', name))
    .filter((name) => name.endsWith('.rs') && /\bsleep\(/.test(withoutTests(readFileSync(join(root, name), 'utf8'))))
}

const withoutTests = (source) => source.split(/^#\[cfg\(test\)\]\nmod \w+ \{/m)[0]

/** Whatever a workflow uses of others, unless it says which commit. */
function unpinnedActions() {
  const workflows = join(root, '.github', 'workflows')
  const used = readdirSync(workflows).flatMap((name) => [...readFileSync(join(workflows, name), 'utf8').matchAll(/^\s*(?:- )?uses: (\S+)/gm)])
  return used.map(([, action]) => action).filter((action) => !/@[0-9a-f]{40}$/.test(action) && !action.startsWith('./'))
}

function dependencies(pkg) {
  const tree = run('cargo', ['tree', '-p', pkg, '--edges', 'normal,build', '--prefix', 'none', '--locked'], { quiet: true })
  return new Set(tree.split('\n').map((line) => line.split(' ')[0]).filter(Boolean))
}

function refuse(found, text) {
  if (found.length > 0) throw new Error(`${text}: ${found.join(', ')}`)
}

const GENERATED = ['index.d.ts', 'native.cjs', 'native.d.cts', 'npm', 'package-lock.json', 'Cargo.lock']

const gates = {
  'cargo fmt': () => run('cargo', ['fmt', '--all', '--check']),
  'cargo clippy': () => run('cargo', ['clippy', '--workspace', '--all-targets', '--locked', '--quiet', '--', '-D', 'warnings']),
  'tsc --noEmit': () => run('tsc', ['--noEmit', '-p', '.']),
  'every export says what it does': () => run('typedoc', ['--emit', 'none']),
  'actions are pinned by commit': () => refuse(unpinnedActions(), 'not pinned'),
  'platform manifests are those of package.json': () => run('napi', ['create-npm-dirs'], { quiet: true }),
  'generated files are what the build writes': () => {
    run('git', ['diff', '--exit-code', '--stat', '--', ...GENERATED])
    refuse(run('git', ['ls-files', '--others', '--exclude-standard', '--', ...GENERATED], { quiet: true }).split('\n').filter(Boolean), 'generated, not committed')
  },
  'the core cannot name napi': () => refuse([...dependencies('syncguard')].filter((name) => name.startsWith('napi')), 'the core depends on'),
  'TLS by ring only': () => refuse([...dependencies('syncguard-node')].filter((name) => /^(aws-lc|openssl-sys)/.test(name)), 'banned'),
  'nothing but the engine pauses': () => refuse(sourcesWithSleep().filter((name) => !MAY_SLEEP.some((place) => place.test(name))), 'sleep( in'),
  'no registry in the lock file': () => refuse(readFileSync(join(root, 'package-lock.json'), 'utf8').match(/"resolved": "http[^"]*/g) ?? [], 'resolved')
}

await main(async () => {
  installPackages()
  const failed = []
  for (const [name, gate] of Object.entries(gates)) {
    heading(name)
    try {
      gate()
    } catch (error) {
      console.error(error.message)
      failed.push(name)
    }
  }
  if (failed.length > 0) throw new Error(`lint: ${failed.length} of ${Object.keys(gates).length} gates failed: ${failed.join('; ')}`)
  console.log(`\nlint: ${Object.keys(gates).length} gates passed`)
})
