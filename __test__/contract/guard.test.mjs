// Section 10: guard, at most one instance of an application.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { guard } from 'syncguard/pid'
import { isLockError, rejectsWith, throwsWith } from '../support/assertions.mjs'
import { skipWithout } from '../support/needs.mjs'
import { startProgram } from '../support/processes.mjs'
import { temporaryDirectory } from '../support/server-process.mjs'
import { timed } from '../support/wait.mjs'

describe('guard', { skip: skipWithout('file') }, () => {
  let count = 0
  const dir = temporaryDirectory('instances')
  const fresh = () => `app-${++count}`
  const claimant = async (name, more = {}) => {
    const program = startProgram('claimant', { kind: 'guard', dir, name, ...more })
    return { program, told: await program.hear('told') }
  }
  const called = (name, where = dir) => new Promise((resolve) => guard(where, name, (error, data, cleanup) => resolve({ error, data, cleanup })))

  test('the promise answers a handle; cleanup and disposal are idempotent', async () => {
    const name = fresh()
    const handle = await guard(dir, name)
    assert.equal(handle.state, 'OK')
    const before = readdirSync(dir)
    await handle.cleanup()
    await handle.cleanup()
    await handle[Symbol.asyncDispose]()
    const again = await guard(dir, name)
    assert.equal(again.state, 'OK')
    assert.deepEqual(readdirSync(dir), before)
    await again[Symbol.asyncDispose]()
  })

  test('the callback is told, and its cleanup lets the next one start', async () => {
    const name = fresh()
    const first = await called(name)
    assert.equal(first.error, null)
    assert.deepEqual(first.data, { state: 'OK' })
    const second = await called(name)
    isLockError(second.error, 'AcquisitionTimeout')
    assert.equal(second.error.context.pid, process.pid)
    assert.deepEqual(second.data, { state: 'CONFIRMED_TO_NOT_START' })
    await second.cleanup()
    assert.equal((await called(name)).data.state, 'CONFIRMED_TO_NOT_START', "a loser's cleanup frees nothing")
    await new Promise((resolve, reject) => first.cleanup((error) => (error ? reject(error) : resolve())))
    const third = await called(name)
    assert.equal(third.data.state, 'OK')
    await third.cleanup()
  })

  test('the error says who holds it: pid, since when, command line', async () => {
    const name = fresh()
    const { program, told } = await claimant(name)
    assert.deepEqual([told.won, told.state], [true, 'OK'])
    const { context } = await rejectsWith(guard(dir, name), 'AcquisitionTimeout')
    assert.equal(context.pid, program.pid)
    assert.ok(Math.abs(Date.now() - context.sinceMs) < 60_000, `since ${context.sinceMs}`)
    assert.match(String(context.commandLine), /claimant\.mjs/)
    program.say({ do: 'release' })
    await program.hear('released')
    assert.equal((await program.exited).code, 0, 'nothing keeps the process')
    await (await guard(dir, name)).cleanup()
  })

  test('the claim goes with its process, however that ends', async () => {
    for (const end of [(program) => program.kill('SIGKILL'), (program) => program.kill('SIGTERM'), (program) => (program.say({ do: 'exit' }), program.exited)]) {
      const name = fresh()
      const { program } = await claimant(name)
      await end(program)
      const { ms, value } = await timed(() => guard(dir, name))
      assert.match(value.state, /^OK/)
      assert.ok(ms < 1000, `started after ${ms} ms`)
      await value.cleanup()
    }
  })

  test('a stopped instance is alive', async () => {
    const name = fresh()
    const { program } = await claimant(name)
    program.pause()
    assert.equal((await rejectsWith(guard(dir, name), 'AcquisitionTimeout')).context.pid, program.pid)
    await program.kill()
  })

  test('a recycled pid blocks nobody', async () => {
    const name = fresh()
    const { program } = await claimant(name)
    const file = readdirSync(dir).map((each) => join(dir, each)).find((each) => readFileSync(each, 'utf8').includes(String(program.pid)))
    const record = readFileSync(file, 'utf8')
    await program.kill()
    // The dead instance's record, as if its pid were this living process's, which began at another time.
    writeFileSync(file, record.replaceAll(String(program.pid), String(process.pid)))
    const handle = await guard(dir, name)
    assert.match(handle.state, /^OK/)
    await handle.cleanup()
  })

  test('of many processes that start at once exactly one runs, and losers leave nothing behind', async () => {
    const name = fresh()
    const before = readdirSync(dir)
    const at = Date.now() + 2500
    const racers = await Promise.all(Array.from({ length: 12 }, () => claimant(name, { at })))
    const winners = racers.filter(({ told }) => told.won)
    assert.equal(winners.length, 1)
    for (const { told } of racers) if (!told.won) assert.deepEqual([told.code, told.pid], ['AcquisitionTimeout', winners[0].program.pid])
    const made = readdirSync(dir).filter((each) => !before.includes(each))
    assert.ok(made.length <= 1, made.join(' '))
    await Promise.all(racers.map(({ program }) => program.kill()))
  })

  test('a worker is no other instance', async () => {
    const name = fresh()
    const source = `import { guard } from 'syncguard/pid'; import { parentPort, workerData } from 'node:worker_threads'
      await guard(workerData.dir, workerData.name).then(({ state }) => parentPort.postMessage(state), ({ code }) => parentPort.postMessage(code))`
    const inWorker = () =>
      new Promise((resolve, reject) => {
        const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source.replace("'syncguard/pid'", `'${import.meta.resolve('syncguard/pid')}'`))}`), { workerData: { dir, name } })
        worker.once('message', (answer) => worker.terminate().then(() => resolve(answer))).once('error', reject)
      })
    const handle = await guard(dir, name)
    assert.equal(await inWorker(), 'AcquisitionTimeout')
    await handle.cleanup()
    assert.match(await inWorker(), /^OK/)
  })

  test('what is no record is refused, not followed and not deleted', async () => {
    const held = await guard(dir, 'shape')
    const shape = readdirSync(dir).find((each) => each.includes('shape'))
    await held.cleanup()
    const target = join(dir, 'elsewhere')
    writeFileSync(target, 'mine')
    for (const [what, make] of [
      ['a directory', (path) => mkdirSync(path)],
      ['a symlink', (path) => symlinkSync(target, path)],
      ['a FIFO', (path) => execFileSync('mkfifo', [path])]
    ]) {
      const name = fresh()
      const path = join(dir, shape.replace('shape', name))
      make(path)
      const before = lstatSync(path)
      const error = await rejectsWith(guard(dir, name), 'InvalidArgument', what)
      assert.deepEqual([lstatSync(path).ino, lstatSync(path).mode], [before.ino, before.mode], what)
      const { data } = await called(name)
      assert.deepEqual(data, {}, `${what}: nothing is known of another instance; ${error.message}`)
    }
    assert.equal(readFileSync(target, 'utf8'), 'mine')
  })

  test('bad input is refused before any I/O', async () => {
    for (const name of ['', '.', '..', 'a/b', 'a\0b', undefined, null, 5, {}]) await rejectsWith(() => guard(dir, name), 'InvalidArgument', `name ${JSON.stringify(name)}`)
    for (const where of ['', 'a\0b', undefined, null, 5]) await rejectsWith(() => guard(where, 'app'), 'InvalidArgument', `dir ${JSON.stringify(where)}`)
    for (const callback of [null, 5, 'x', {}]) throwsWith(() => guard(dir, 'app', callback), 'InvalidArgument', `callback ${JSON.stringify(callback)}`)
  })
})
