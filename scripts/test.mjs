// npm test: everything, from a fresh clone. `npm test -- contract faults` runs only those suites.
// A failure ends its own phase and no other; all are told at the end.
import { prepareMachine } from './machine.mjs'
import { filesOf, nodeSuites, runNodeTests } from './node-tests.mjs'
import { buildRelease, buildTypeScript, fetchCrates, installPackages } from './prepare.mjs'
import { heading, main, run } from './run.mjs'
import { runRustTests } from './rust-tests.mjs'
import { summarise } from './summary.mjs'

const suites = ['rust', 'types', ...nodeSuites]

await main(async () => {
  const start = performance.now()
  const asked = process.argv.slice(2)
  const unknown = asked.filter((suite) => !suites.includes(suite))
  if (unknown.length > 0) throw new Error(`there is no suite ${unknown.join(', ')}; there are ${suites.join(', ')}`)
  const wanted = (suite) => asked.length === 0 || asked.includes(suite)

  prepareMachine(suites.filter(wanted))
  installPackages()
  fetchCrates()
  const results = []
  /** Runs a part; what it throws is a failure of that part. */
  const phase = async (name, work) => {
    const began = performance.now()
    try {
      results.push(...[await work()].flat())
    } catch (error) {
      console.error(`\n${error.message}`)
      results.push({ name, passed: 0, failed: 1, skipped: 0, ms: performance.now() - began, failures: [error.message.split('\n')[0]] })
    }
  }

  if (wanted('rust')) {
    heading('Rust tests')
    await phase('rust', runRustTests)
  }
  const ofNode = nodeSuites.filter(wanted)
  if (wanted('types') || ofNode.length > 0) {
    await phase('build', () => (buildRelease(), buildTypeScript(), []))
    if (wanted('types')) {
      heading('type tests')
      await phase('types', () => {
        const began = performance.now()
        run('npm', ['run', '--silent', 'check:ts'])
        return { name: 'types', passed: 1, failed: 0, skipped: 0, ms: performance.now() - began, failures: [] }
      })
    }
  }
  if (ofNode.length > 0) {
    const { installRuntimes } = await import('../__test__/consumer/runtimes.mjs')
    if (wanted('consumer')) await phase('runtimes', () => (installRuntimes(), []))
    heading(`Node tests (${ofNode.flatMap(filesOf).length} files)`)
    await phase('node', () => runNodeTests(ofNode))
  }
  heading('summary')
  if (!summarise(results, performance.now() - start)) process.exitCode = 1
})
