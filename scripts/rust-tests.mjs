// The core's tests: built by cargo, run one program after another, so that each has its result whatever the others do.
import { spawn } from 'node:child_process'
import { isLeftOut } from '../__test__/support/needs.mjs'
import { environment, root, run } from './run.mjs'

/** Answers a result per test program: { name, passed, failed, skipped, ms, failures }. */
export async function runRustTests() {
  const results = []
  for (const { name, executable } of build()) {
    if (isLeftOut(name)) {
      console.log(`\nLEFT OUT: tests/${name} (SYNCGUARD_TEST_WITHOUT=${name})`)
      results.push({ name: `rust ${name}`, passed: 0, failed: 0, skipped: 1, ms: 0, failures: [] })
      continue
    }
    console.log(`\n-- ${name}`)
    results.push({ name: `rust ${name}`, ...(await libtest(executable, ['--quiet'])) })
  }
  console.log('\n-- examples in comments')
  results.push({ name: 'rust doc', ...(await libtest('cargo', ['test', '--doc', '--locked', '--quiet'])) })
  return results
}

/** The test programs of the workspace. What they need of the machine is named as the stores are. */
function build() {
  const args = ['test', '--workspace', '--locked', '--no-run', '--message-format=json-render-diagnostics']
  const messages = run('cargo', args, { output: 'answered' })
    .split('\n')
    .filter((line) => line.startsWith('{'))
  return messages
    .map((line) => JSON.parse(line))
    .filter(({ reason, executable, profile }) => reason === 'compiler-artifact' && executable && profile.test)
    .map(({ target, executable }) => ({ name: target.kind.includes('test') ? target.name : 'lib', executable }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Runs a program of libtest's form, shows what it prints, and counts. */
export function libtest(command, args, show = (chunk) => process.stdout.write(chunk)) {
  return new Promise((resolve) => {
    const start = performance.now()
    const child = spawn(command, args, { cwd: root, env: { ...environment, CARGO_MANIFEST_DIR: root }, stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk) => (show(chunk), (text += chunk)))
    child.once('error', (error) => (text += error.message))
    child.once('close', (status, signal) => {
      const results = [...text.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)]
      const [passed, failed, skipped] = [1, 2, 3].map((group) => results.reduce((sum, result) => sum + Number(result[group]), 0))
      const failures = new Set([...text.matchAll(/^ {4}(\S+)$/gm)].map(([, name]) => name).filter((name) => failed > 0 && name.length > 0))
      const died = failed === 0 && status !== 0 ? [`ended with ${signal ?? status}`] : []
      resolve({ passed, failed: failed + died.length, skipped, ms: performance.now() - start, failures: [...failures, ...died] })
    })
  })
}
