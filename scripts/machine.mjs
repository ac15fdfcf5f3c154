// What the tests need of the machine: installed where apt-get can, else named all at once, before anything is built.
import { spawnSync } from 'node:child_process'
import { fileBeside, findProgram, isLeftOut, leftOut, NEEDS, waysToGet } from '../__test__/support/needs.mjs'
import { environment, heading, run } from './run.mjs'

const STORES = ['redis', 'postgres', 'firestore']
const NEEDED_BY = {
  rust: [...STORES, 'pgbouncer', 'openssl', 'root', 'namespaces'],
  unit: STORES,
  contract: STORES,
  interop: [...STORES, 'openssl'],
  lifecycle: STORES,
  faults: STORES,
  consumer: STORES
}

/** Throws, within a second or so, unless these suites can run here afterwards. */
export function prepareMachine(suites) {
  if (!works('cargo', '--version')) throw new Error('cargo was not found: building the addon needs Rust, see https://rustup.rs')
  if (leftOut.length > 0) console.log(`LEFT OUT: SYNCGUARD_TEST_WITHOUT=${leftOut.join(',')}`)
  const needed = [...new Set(['cc', ...suites.flatMap((suite) => NEEDED_BY[suite] ?? [])])].filter((kind) => !isLeftOut(kind))
  const missing = needed.filter((kind) => !isThere(kind))
  if (missing.length === 0) return
  const packages = missing.flatMap(packagesFor)
  const apt = packages.length > 0 && asRoot('apt-get')
  // What nobody can install is told before anything is.
  if (!apt || missing.some((kind) => packagesFor(kind).length === 0)) throw lack(missing)
  heading(`installing ${packages.join(', ')}`)
  const [command, ...args] = apt
  spawnSync(command, [...args, 'update', '-qq', ...PATIENTLY], { env: environment, stdio: ['ignore', 'inherit', 'inherit'] })
  const unknown = packages.filter((name) => !isKnown(name))
  if (unknown.length > 0) throw lack(missing, ` (apt-get knows no ${unknown.join(', ')})`)
  run(command, [...args, 'install', '-y', '-qq', '--no-install-recommends', ...PATIENTLY, ...packages])
  console.log('Debian starts the servers that it installs, on their usual ports; the tests start servers of their own and use no others.')
  const still = missing.filter((kind) => !isThere(kind))
  if (still.length > 0) throw lack(still)
}

const PATIENTLY = ['-o', 'Acquire::Retries=5', '-o', 'DPkg::Lock::Timeout=300']

function lack(kinds, why = '') {
  const canGo = kinds.filter((kind) => !NEEDS[kind].always)
  const without = canGo.length > 0 ? `\nOr leave out what needs it: SYNCGUARD_TEST_WITHOUT=${[...leftOut, ...canGo].join(',')} npm test` : ''
  return new Error(`the tests need what is not here${why}:\n${kinds.map((kind) => `- ${waysToGet(kind)}`).join('\n')}${without}`)
}

const works = (command, ...args) => spawnSync(command, args, { env: environment, stdio: 'ignore' }).status === 0

const isMissing = (program) => findProgram(program) === undefined

function isThere(kind) {
  const { programs = {}, beside, try: attempt } = NEEDS[kind]
  return !Object.keys(programs).some(isMissing) && (!beside || fileBeside(kind) !== undefined) && (!attempt || works(...attempt))
}

/** The packages that bring what a kind lacks. */
function packagesFor(kind) {
  const { programs = {}, beside = {} } = NEEDS[kind]
  const lacking = Object.keys(programs).filter((program) => isMissing(program) || (program in beside && fileBeside(kind) === undefined))
  return [...new Set(lacking.flatMap((program) => programs[program].split(' ')))]
}

/** A command as root, without a question to anybody; undefined where that can't be. */
function asRoot(command) {
  if (isMissing(command)) return undefined
  const words = ['env', 'DEBIAN_FRONTEND=noninteractive', command]
  if (process.getuid() === 0) return words
  return works('sudo', '-n', 'true') ? ['sudo', '-n', ...words] : undefined
}

const isKnown = (name) => /Candidate: (?!\(none\))/.test(spawnSync('apt-cache', ['policy', name], { encoding: 'utf8', env: { ...environment, LC_ALL: 'C' } }).stdout ?? '')
