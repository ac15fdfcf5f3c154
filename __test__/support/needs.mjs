// Which servers a run can use. A missing one is a failure that says how to get it; leaving one out is asked for by
// name (SYNCGUARD_TEST_WITHOUT=redis,firestore) and said aloud.
import { accessSync, constants, existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const HOW = {
  redis: 'redis-server (Debian, Ubuntu: apt-get install redis-server)',
  postgres: 'initdb and postgres (Debian, Ubuntu: apt-get install postgresql)',
  firestore: 'gcloud with its Firestore emulator and Java (gcloud components install cloud-firestore-emulator)'
}

const without = new Set((process.env.SYNCGUARD_TEST_WITHOUT ?? '').split(',').map((name) => name.trim()).filter(Boolean))
for (const name of without) {
  if (!(name in HOW) && name !== 'file') throw new Error(`SYNCGUARD_TEST_WITHOUT names ${name}; it may name ${Object.keys(HOW).join(', ')}, file`)
}

/** Whether this run leaves out a kind of server. */
export const isLeftOut = (kind) => without.has(kind)

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
  return new Error(
    `the tests need ${HOW[kind]}, and ${missing} was not found. Install it, or leave out what needs it: SYNCGUARD_TEST_WITHOUT=${kind}`
  )
}

export function findProgram(name) {
  return [...(process.env.PATH ?? '').split(delimiter), ...unusualPlaces()].map((dir) => join(dir, name)).find(isExecutable)
}

/** Debian keeps the server's programs of PostgreSQL off the PATH. */
function unusualPlaces() {
  const debian = '/usr/lib/postgresql'
  if (!existsSync(debian)) return []
  return readdirSync(debian)
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(debian, version, 'bin'))
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
