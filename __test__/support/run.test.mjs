// `npm test` must tell the truth about what it ran: counts, names of failures, what a machine lacks.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { libtest } from '../../scripts/rust-tests.mjs'
import { temporaryDirectory } from './server-process.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))

test('the reporter counts what passed, failed and was left out, and names failures', () => {
  const dir = temporaryDirectory('reporter')
  writeFileSync(
    join(dir, 'some.test.mjs'),
    `import { before, describe, test } from 'node:test'
    test('good', () => {})
    describe('group', () => { test('good', () => {}); test('bad', () => { throw new Error('x') }) })
    describe('broken', () => { before(() => { throw new Error('hook') }); test('never', () => {}) })
    describe('all left out', { skip: 'reason' }, () => {})
    test('left out', { skip: 'reason' }, () => {})
    test('parent', async (t) => { await t.test('child that fails', () => { throw new Error('y') }) })`
  )
  writeFileSync(join(dir, 'dead.test.mjs'), 'process.exit(3)')
  const counts = join(dir, 'counts.json')
  const args = ['--test', `--test-reporter=${join(root, 'scripts', 'count-reporter.mjs')}`, `--test-reporter-destination=${counts}`]
  const env = { ...process.env }
  delete env.NODE_TEST_CONTEXT
  spawnSync(process.execPath, [...args, join(dir, 'some.test.mjs'), join(dir, 'dead.test.mjs')], { env })
  const files = JSON.parse(readFileSync(counts, 'utf8'))
  const { passed, failed, skipped, failures } = files[join(dir, 'some.test.mjs')]
  assert.deepEqual({ passed, skipped }, { passed: 2, skipped: 1 })
  assert.equal(failed, failures.length)
  for (const name of ['bad', 'broken', 'child that fails']) assert.ok(failures.includes(name), `${name} is not in ${failures}`)
  assert.ok(!failures.includes('group'))
  assert.equal(files[join(dir, 'dead.test.mjs')].failed, 1)
})

test('a Rust test program is counted, also one that dies', async () => {
  const program = (text) => ['sh', ['-c', text], () => {}]
  const good = await libtest(...program('echo "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out"'))
  assert.deepEqual([good.passed, good.failed, good.skipped, good.failures], [3, 0, 1, []])
  const bad = await libtest(...program('printf "failures:\\n    some::test\\n\\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured\\n"; exit 101'))
  assert.deepEqual([bad.passed, bad.failed, bad.failures], [2, 1, ['some::test']])
  const dead = await libtest(...program('kill -9 $$'))
  assert.deepEqual([dead.passed, dead.failed, dead.failures], [0, 1, ['ended with SIGKILL']])
  const absent = await libtest('/nowhere/program', [], () => {})
  assert.equal(absent.failed, 1)
})

/** What `prepareMachine(suites)` does where only these programs are. */
function prepare(programs, suites, env = {}) {
  const bin = join(temporaryDirectory('bin'), 'bin')
  mkdirSync(bin)
  for (const [name, text] of Object.entries(programs)) {
    if (text) writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
    else symlinkSync('/bin/true', join(bin, name))
  }
  const script = `import { prepareMachine } from './scripts/machine.mjs'
    try { prepareMachine(${JSON.stringify(suites)}); console.log('ready') } catch (error) { console.log(error.message) }`
  // A home without Cargo, which is looked for there as well.
  const options = { cwd: root, env: { PATH: bin, HOME: dirname(bin), ...env }, encoding: 'utf8' }
  return spawnSync(process.execPath, ['--input-type=module', '-e', script], options).stdout.trim()
}

test('what a machine lacks is named all at once', () => {
  assert.match(prepare({}, ['support']), /^cargo was not found.*rustup/)
  assert.equal(prepare({ cargo: '', cc: '' }, ['support', 'types']), 'ready')
  // No apt-get, no right to make namespaces.
  const said = prepare({ cargo: '', cc: '', java: '', unshare: 'exit 1', setpriv: '' }, ['rust'], { SYNCGUARD_TEST_WITHOUT: 'postgres,pgbouncer' })
  for (const part of [
    'redis-server',
    'gcloud',
    'openssl',
    'namespaces',
    'LEFT OUT: SYNCGUARD_TEST_WITHOUT=postgres,pgbouncer',
    'SYNCGUARD_TEST_WITHOUT=postgres,pgbouncer,redis'
  ]) {
    assert.ok(said.includes(part), `${part} is not in ${said}`)
  }
  assert.ok(!/PgBouncer|the server programs|another user/.test(said), said)
})
