// npm run lint: formats, lints, and the invariants that a command can check. Runs them all and names those that fail.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { forbiddenIngredients } from './ingredients.mjs'
import { mapFaults } from './map.mjs'
import { installPackages } from './prepare.mjs'
import { heading, main, root, run } from './run.mjs'

/** Where a pause or a beat may stand. */
const MAY_SLEEP = [
  // The engine's loop, its deadlines, its late undo.
  /^src\/engine\/acquire\/(attempt|search|undo)\.rs$/,
  // Between attempts to come back to a server.
  /^src\/stores\/net\/backoff\.rs$/,
  // No pause before an attempt: when a stream is idle or due to be looked after, and how often a silent connection is looked at.
  /^src\/stores\/(postgres\/wake\/listener|firestore\/wake\/listener|redis\/transport\/watchdog)\.rs$/,
  // Deadlines on a caller's event loop, and the loop that tests block.
  /^src\/event_loop\/(timers|poller)\.rs$/,
  // Others are just removing a claim: some milliseconds, on a thread for blocking work.
  /^src\/local\/(instance\/mod|file_lock\/(acquire|lease))\.rs$/,
  /^src\/(conformance|stores\/memory)\//,
  /(^|[/_])tests?(\/|\.rs$)/
]

/** A call of one of the functions that pause, not a method or a function of that name of our own. */
const PAUSE = /(?<![.\w]|fn )(sleep|sleep_until|interval|interval_at)\(/

function sourcesThatPause() {
  return readdirSync(join(root, 'src'), { recursive: true })
    .map((name) => join('src', name))
    .filter((name) => name.endsWith('.rs') && PAUSE.test(withoutTests(readFileSync(join(root, name), 'utf8'))))
}

const withoutTests = (source) => source.split(/^#\[cfg\(test\)\]\nmod \w+ \{/m)[0]

/** Directories that only somebody's machine has. */
const MACHINE_PATH = '(^|[^A-Za-z0-9_.}])/(work|root|Users|home/[a-z]+)(/|[^A-Za-z0-9_/.-]|$)'

/** What is committed, or would be, and names one. */
function machinePaths() {
  const { stdout } = spawnSync('git', ['grep', '--untracked', '-nIE', MACHINE_PATH, '--', '.', ':(exclude)scripts/lint.mjs'], { cwd: root, encoding: 'utf8' })
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split(':').slice(0, 2).join(':'))
}

/** Whatever a workflow uses of others, unless it says which commit. */
function unpinnedActions() {
  const workflows = join(root, '.github', 'workflows')
  const used = readdirSync(workflows).flatMap((name) => [...readFileSync(join(workflows, name), 'utf8').matchAll(/^\s*(?:- )?uses: (\S+)/gm)])
  return used.map(([, action]) => action).filter((action) => !/@[0-9a-f]{40}$/.test(action) && !action.startsWith('./'))
}

/** Files that don't say in their first line what they are. */
function silentFiles() {
  const listed = run('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--', 'src', 'tests', ...SCRIPTED], { quiet: true })
  return listed
    .split('\n')
    .filter((name) => /\.(rs|[cm]?[jt]s)$/.test(name) && existsSync(join(root, name)))
    .filter((name) => {
      const source = readFileSync(join(root, name), 'utf8').replace(/^#!.*\n/, '')
      return !(name.endsWith('.rs') ? source.startsWith('//!') : /^(\/\/|\/\*)/.test(source))
    })
}

function dependencies(pkg) {
  const tree = run('cargo', ['tree', '-p', pkg, '--edges', 'normal,build', '--prefix', 'none', '--locked'], { quiet: true })
  return new Set(
    tree
      .split('\n')
      .map((line) => line.split(' ')[0])
      .filter(Boolean)
  )
}

function refuse(found, text) {
  if (found.length > 0) throw new Error(`${text}: ${found.join(', ')}`)
}

/** Where TypeScript and JavaScript live. Named, since the whole tree has symbolic links that biome follows. */
const SCRIPTED = ['ts', 'scripts', 'benches', '__test__', 'docs/examples']

const GENERATED = ['index.d.ts', 'native.cjs', 'native.d.cts', 'npm', 'package-lock.json', 'Cargo.lock']

const gates = {
  'cargo fmt': () => run('cargo', ['fmt', '--all', '--check']),
  'cargo clippy': () => run('cargo', ['clippy', '--workspace', '--all-targets', '--locked', '--quiet', '--', '-D', 'warnings']),
  'cargo doc without warnings': () => run('cargo', ['doc', '--workspace', '--no-deps', '--locked', '--quiet'], { env: { RUSTDOCFLAGS: '-D warnings' } }),
  'biome format': () => run('biome', ['format', 'biome.json', ...SCRIPTED]),
  'biome lint': () => run('biome', ['lint', '--error-on-warnings', ...SCRIPTED]),
  'tsc --noEmit': () => run('tsc', ['--noEmit', '-p', '.']),
  'every export says what it does': () => run('typedoc', ['--emit', 'none']),
  'actions are pinned by commit': () => refuse(unpinnedActions(), 'not pinned'),
  'platform manifests are those of package.json': () => run('napi', ['create-npm-dirs'], { quiet: true }),
  'generated files are what the build writes': () => {
    run('git', ['diff', '--exit-code', '--stat', '--', ...GENERATED])
    refuse(
      run('git', ['ls-files', '--others', '--exclude-standard', '--', ...GENERATED], { quiet: true })
        .split('\n')
        .filter(Boolean),
      'generated, not committed'
    )
  },
  'the core cannot name napi': () =>
    refuse(
      [...dependencies('syncguard')].filter((name) => name.startsWith('napi')),
      'the core depends on'
    ),
  'licences, banned crates and their sources are those of deny.toml': () => refuse(forbiddenIngredients(), 'refused'),
  "ARCHITECTURE.md's map is the tree": () => refuse(mapFaults(), 'the map'),
  'nothing but the engine pauses': () =>
    refuse(
      sourcesThatPause().filter((name) => !MAY_SLEEP.some((place) => place.test(name))),
      'a pause in'
    ),
  'every file says what it is': () => refuse(silentFiles(), 'no first line in'),
  'no path of a machine': () => refuse(machinePaths(), 'named in'),
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
