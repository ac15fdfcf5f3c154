// npm test: everything, from a fresh clone. `npm test -- contract faults` runs only those suites.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { installPackages, buildRelease, buildTypeScript } from './prepare.mjs'
import { heading, main, root, run, runAlongside } from './run.mjs'

const nodeSuites = ['support', 'unit', 'contract', 'interop', 'lifecycle', 'faults', 'consumer']
const suites = ['rust', 'types', ...nodeSuites]

const testsOf = (suite) => {
  const folder = join('__test__', suite)
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => name.endsWith('.test.mjs'))
    .sort()
    .map((name) => join(folder, name))
}

/** One server of each slow-starting kind for all files of a run. */
async function sharedServers() {
  const { isLeftOut } = await import('../__test__/support/needs.mjs')
  const { FirestoreEmulator, PostgresServer } = await import('../__test__/support/servers.mjs')
  const env = {}
  const servers = []
  const share = async (kind, variable, start) => {
    if (isLeftOut(kind)) return
    const server = await start()
    servers.push(server)
    env[variable] = String(server.port)
  }
  await share('postgres', 'SYNCGUARD_TEST_POSTGRES', () => PostgresServer.start())
  await share('firestore', 'SYNCGUARD_TEST_FIRESTORE', () => FirestoreEmulator.start())
  return { env, stop: () => Promise.all(servers.map((server) => server.stop())) }
}

async function runNodeTests(files) {
  const servers = await sharedServers()
  try {
    const options = ['--test-concurrency=3', '--test-timeout=300000', '--test-reporter=spec']
    await runAlongside(process.execPath, ['--test', ...options, ...files], { env: servers.env })
  } finally {
    await servers.stop()
  }
}

await main(async () => {
  const asked = process.argv.slice(2)
  const unknown = asked.filter((suite) => !suites.includes(suite))
  if (unknown.length > 0) throw new Error(`there is no suite ${unknown.join(', ')}; there are ${suites.join(', ')}`)
  const wanted = (suite) => asked.length === 0 || asked.includes(suite)

  installPackages()
  if (wanted('rust')) {
    heading('Rust tests')
    run('cargo', ['test', '--workspace', '--locked', '--quiet'])
  }
  buildRelease()
  buildTypeScript()
  if (wanted('types')) {
    heading('type tests')
    run('npm', ['run', '--silent', 'check:ts'])
    console.log('types: ok')
  }
  const files = nodeSuites.filter(wanted).flatMap(testsOf)
  if (files.length > 0) {
    heading(`Node tests (${files.length} files)`)
    await runNodeTests(files)
  }
})
