// The tests of the public package: files of `__test__`, in one run of node:test that shares the slow servers.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root, runAlongside } from './run.mjs'

export const nodeSuites = ['support', 'unit', 'contract', 'interop', 'lifecycle', 'faults', 'consumer']

export function filesOf(suite) {
  const folder = join('__test__', suite)
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => name.endsWith('.test.mjs'))
    .sort()
    .map((name) => join(folder, name))
}

/** One server of each slow-starting kind for all files of a run. */
async function sharedServers(suites) {
  const env = {}
  const servers = []
  if (suites.every((suite) => suite === 'support' || suite === 'unit')) return { env, servers }
  const { isLeftOut } = await import('../__test__/support/needs.mjs')
  const { FirestoreEmulator, PostgresServer } = await import('../__test__/support/servers.mjs')
  const share = async (kind, variable, start) => {
    if (isLeftOut(kind)) return
    const server = await start()
    servers.push(server)
    env[variable] = String(server.port)
  }
  await share('postgres', 'SYNCGUARD_TEST_POSTGRES', () => PostgresServer.start())
  await share('firestore', 'SYNCGUARD_TEST_FIRESTORE', () => FirestoreEmulator.start())
  return { env, servers }
}

/** Runs them all; answers a result per suite: { name, passed, failed, skipped, ms, failures }. */
export async function runNodeTests(suites) {
  const scratch = mkdtempSync(join(tmpdir(), 'syncguard-test-run-'))
  const counts = join(scratch, 'counts.json')
  const { env, servers } = await sharedServers(suites)
  try {
    const reporters = ['--test-reporter=spec', '--test-reporter-destination=stdout', `--test-reporter=${reporter}`, `--test-reporter-destination=${counts}`]
    const options = ['--test-concurrency=3', '--test-timeout=300000', ...reporters]
    // A failure is in the counts.
    await runAlongside(process.execPath, ['--test', ...options, ...suites.flatMap(filesOf)], { env }).catch(() => {})
    const files = existsSync(counts) ? readFileSync(counts, 'utf8') : ''
    if (files === '') throw new Error('node --test ended without a result')
    return suites.map((suite) => resultOf(suite, JSON.parse(files)))
  } finally {
    rmSync(scratch, { recursive: true, force: true })
    await Promise.all(servers.map((server) => server.stop()))
  }
}

const reporter = fileURLToPath(new URL('count-reporter.mjs', import.meta.url))

function resultOf(suite, files) {
  const sum = { name: suite, passed: 0, failed: 0, skipped: 0, ms: 0, failures: [], slowest: [] }
  const byName = Object.fromEntries(Object.entries(files).map(([path, file]) => [relative(root, path), file]))
  for (const name of filesOf(suite)) {
    // A file of which nothing is known has not run to its end.
    const file = byName[name] ?? { passed: 0, failed: 1, skipped: 0, ms: 0, failures: ['no result'] }
    for (const field of ['passed', 'failed', 'skipped', 'ms']) sum[field] += file[field]
    sum.failures.push(...file.failures.map((test) => `${name}: ${test}`))
    sum.slowest.push({ name, ms: file.ms })
  }
  return sum
}
