// Which servers a run can use. A missing one is a failure that says how to get it; leaving one out is asked for by
// name (SYNCGUARD_TEST_WITHOUT=redis,firestore) and said aloud.
import { accessSync, constants, existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'

/** What there is to need, by name: programs and the packages of Debian that have them, what to try, other ways to get it. */
export const NEEDS = JSON.parse(readFileSync(new URL('needs.json', import.meta.url), 'utf8'))

const without = new Set(
  (process.env.SYNCGUARD_TEST_WITHOUT ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean)
)
const mayBeWithout = ['file', ...Object.keys(NEEDS).filter((name) => !NEEDS[name].always)]
for (const name of without) {
  if (!mayBeWithout.includes(name)) throw new Error(`SYNCGUARD_TEST_WITHOUT names ${name}; it may name ${mayBeWithout.join(', ')}`)
}

/** Whether this run leaves out a kind of server. */
export const isLeftOut = (kind) => without.has(kind)
export const leftOut = [...without]

/** What a test gets as `skip`: false, or the reason that is printed. */
export const skipWithout = (...kinds) => {
  const missing = kinds.filter(isLeftOut)
  return missing.length > 0 && `LEFT OUT: SYNCGUARD_TEST_WITHOUT=${missing.join(',')}`
}

/** The path of a program, on the PATH or where its packages put it. */
export function program(name, kind) {
  const path = findProgram(name)
  if (path === undefined) throw howToGet(kind, name)
  return path
}

/** The error for a kind of server that can't be started. */
export function howToGet(kind, missing) {
  return new Error(`${missing} was not found: the tests need ${waysToGet(kind)}, or leave out what needs it: SYNCGUARD_TEST_WITHOUT=${kind}`)
}

/** What it is, and where it comes from. */
export function waysToGet(kind) {
  const { what, programs = {}, elsewhere } = NEEDS[kind]
  const packages = [...new Set(Object.values(programs))]
  const ways = [packages.length > 0 && `Debian, Ubuntu: apt-get install ${packages.join(' ')}`, elsewhere]
  return `${what} (${ways.filter(Boolean).join('; ')})`
}

/** A file that belongs to a kind and stands beside one of its programs, wherever that was installed. */
export function fileBeside(kind) {
  const [[name, way]] = Object.entries(NEEDS[kind].beside)
  const path = findProgram(name)
  const file = path && join(dirname(realpathSync(path)), way)
  return file && existsSync(file) ? file : undefined
}

export function findProgram(name) {
  return [...(process.env.PATH ?? '').split(delimiter), ...unusualPlaces()].map((dir) => join(dir, name)).find(isExecutable)
}

/** Where Debian puts what only servers need: off the PATH of most users. */
function unusualPlaces() {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  return ['/usr/sbin', '/usr/local/sbin', ...versions.map((version) => join(debian, version, 'bin'))]
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
