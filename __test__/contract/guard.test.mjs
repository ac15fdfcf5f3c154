// Section 10: `guard`, at most one instance of an application, as it looks from JavaScript and from other processes.
import assert from 'node:assert/strict'
import { lstatSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { Worker } from 'node:worker_threads'
import { guard } from 'syncguard/pid'
import { isLockError, rejectsWith, saysWhatIsWrong, throwsWith } from '../support/assertions.mjs'
import { placeObstacles } from '../support/obstacles.mjs'
import { startProgram, startSource } from '../support/processes.mjs'
import { temporaryDirectory } from '../support/server-process.mjs'
import { until } from '../support/wait.mjs'

const name = 'application'
const newDirectory = () => temporaryDirectory('guard')

/** What the callback of one call gets, once; a second call of it fails the test. */
const called = (dir, as) =>
  new Promise((resolve, reject) => {
    let calls = 0
    const answer = guard(dir, as, (error, data, cleanup) => {
      if (calls++ > 0) reject(new Error('the callback was called twice'))
      setTimeout(resolve, 20, { error, data, cleanup })
    })
    assert.equal(answer, undefined)
    assert.equal(calls, 0, 'never before guard() has returned')
  })

/** What a failed test left running would keep this process alive. */
const started = []
after(() => {
  for (const program of started) program.kill()
})

async function prepare(dir) {
  const program = startProgram('instance', { dir, name })
  started.push(program)
  await program.hear('ready')
  return program
}

async function start(dir) {
  const program = await prepare(dir)
  program.say({ do: 'start' })
  const { is, state } = await program.hear(({ is }) => is === 'started' || is === 'refused')
  assert.equal(is, 'started')
  return Object.assign(program, { state })
}

/** That nobody holds it: whoever comes starts, and is told `state`. */
async function isFree(dir, state, as = name) {
  const handle = await guard(dir, as)
  assert.equal(handle.state, state)
  await handle.cleanup()
}

describe('guard in one process', () => {
  test('its callback comes also where tests have replaced timers and process.nextTick', async (t) => {
    t.mock.method(process, 'nextTick', () => {})
    const told = called(newDirectory(), name)
    const late = new Promise((resolve) => setTimeout(resolve, 5000, 'never').unref())
    const { error, cleanup } = await Promise.race([told, late])
    assert.equal(error, null)
    await cleanup()
  })

  test('the promise: a handle, until it is cleaned up', async () => {
    const dir = newDirectory()
    const handle = await guard(dir, name)
    assert.equal(handle.state, 'OK')
    assert.deepEqual(readdirSync(dir), [name])
    await rejectsWith(guard(dir, name), 'AcquisitionTimeout')
    await isFree(dir, 'OK', 'another application')
    assert.equal(await handle.cleanup(), undefined)
    assert.deepEqual(readdirSync(dir), [])
    const next = await guard(dir, name)
    await handle.cleanup()
    await handle[Symbol.asyncDispose]()
    await rejectsWith(guard(dir, name), 'AcquisitionTimeout', 'a second cleanup frees nobody else')
    assert.equal(await next[Symbol.asyncDispose](), undefined)
    await next[Symbol.asyncDispose]()
    await isFree(dir, 'OK')
  })

  test('the callback: callback(error, data, cleanup)', async () => {
    const dir = newDirectory()
    const won = await called(dir, name)
    assert.equal(won.error, null)
    assert.deepEqual({ ...won.data }, { state: 'OK' })
    const lost = await called(dir, name)
    isLockError(lost.error, 'AcquisitionTimeout')
    assert.deepEqual({ ...lost.data }, { state: 'CONFIRMED_TO_NOT_START' })
    await lost.cleanup()
    assert.equal(await new Promise((resolve) => lost.cleanup(resolve)), null)
    await rejectsWith(guard(dir, name), 'AcquisitionTimeout', "a loser's cleanup frees nobody")
    assert.equal(await new Promise((resolve) => won.cleanup(resolve)), null)
    assert.deepEqual(readdirSync(dir), [])
    assert.equal(await new Promise((resolve) => won.cleanup(resolve)), null)
    await isFree(dir, 'OK')
  })

  test('what the callback throws is an uncaught exception, as of any callback', async () => {
    const program = startSource(`
      import { guard } from 'syncguard/pid'
      let calls = 0
      process.on('unhandledRejection', () => console.log('"unhandledRejection"'))
      process.on('uncaughtException', ({ message }) => console.log(JSON.stringify({ message, calls })))
      guard(${JSON.stringify(newDirectory())}, 'a', () => { calls++; throw new Error('mine') })
    `)
    await program.exited
    assert.deepEqual(program.lines, [{ message: 'mine', calls: 1 }])
  })

  test('the error says who holds it: pid, since when, command line', async () => {
    const dir = newDirectory()
    const before = Date.now()
    const handle = await guard(dir, name)
    const error = await rejectsWith(guard(dir, name), 'AcquisitionTimeout')
    const { pid, sinceMs, commandLine, retryable, outcome } = error.context
    assert.equal(pid, process.pid)
    assert.ok(sinceMs >= before && sinceMs <= Date.now(), `since ${sinceMs}`)
    assert.ok(commandLine.startsWith(process.argv0) && commandLine.includes('guard.test.mjs'), commandLine)
    assert.deepEqual([retryable, outcome], [true, 'not-applied'])
    for (const part of [join(dir, name), String(pid), new Date(sinceMs).toISOString(), commandLine]) {
      assert.ok(error.message.includes(part), `"${error.message}" does not tell ${part}`)
    }
    await handle.cleanup()
  })

  test('of many calls at a time one wins', async () => {
    const dir = newDirectory()
    const settled = await Promise.allSettled(Array.from({ length: 20 }, () => guard(dir, name)))
    const winners = settled.filter(({ status }) => status === 'fulfilled')
    assert.equal(winners.length, 1)
    for (const { reason } of settled) if (reason) isLockError(reason, 'AcquisitionTimeout')
    assert.deepEqual(readdirSync(dir), [name])
    await winners[0].value.cleanup()
  })

  test('import and require share it; a missing directory is made', async () => {
    const required = createRequire(import.meta.url)('syncguard/pid')
    const dir = join(newDirectory(), 'made', 'too')
    const handle = await required.guard(dir, name)
    await rejectsWith(guard(dir, name), 'AcquisitionTimeout')
    await handle.cleanup()
  })

  test('bad input', async () => {
    const dir = newDirectory()
    const bad = [
      ...[undefined, null, 5, {}, '', 'a\0b', 'a\ud800b', Buffer.from(dir), new URL(`file://${dir}`)].map((given) => [given, name, 'dir']),
      ...[undefined, null, 5, {}, '', '.', '..', 'a/b', '/a', '../a', 'a/', 'a\0b', 'a\ud800b'].map((given) => [dir, given, 'name'])
    ]
    for (const [directory, as, argument] of bad) {
      const what = `guard(${inspect(directory)}, ${inspect(as)})`
      saysWhatIsWrong(await rejectsWith(() => guard(directory, as), 'InvalidArgument', what), argument)
      const { error, data, cleanup } = await called(directory, as)
      saysWhatIsWrong(isLockError(error, 'InvalidArgument', what), argument)
      assert.deepEqual({ ...data }, {}, 'whether another instance lives is not known')
      await cleanup()
    }
    for (const given of [null, 5, 'x', {}]) {
      saysWhatIsWrong(
        throwsWith(() => guard(dir, name, given), 'InvalidArgument', inspect(given)),
        'callback'
      )
    }
    assert.deepEqual(readdirSync(dir), [])
    for (const hostile of ['...', '-rf', ' ', 'ä🔒', '%2F', "'; DROP TABLE x; --", 'a:b', 'x'.repeat(200)]) {
      await isFree(dir, 'OK', hostile)
    }
    assert.deepEqual(readdirSync(dir), [])
  })

  test('something else at that place is an error, neither followed nor touched', async () => {
    const dir = newDirectory()
    const at = (entry) => join(dir, entry)
    const other = await guard(newDirectory(), name)
    placeObstacles(dir)
    writeFileSync(at('empty'), '')
    writeFileSync(at('bare pid'), '999999999\n')
    writeFileSync(at('JSON'), '{"pid":999999999}')
    const names = readdirSync(dir)
    const state = (entry) => [lstatSync(at(entry)).ino, lstatSync(at(entry)).mode, lstatSync(at(entry)).mtimeMs]
    for (const entry of names) {
      const before = state(entry)
      const { error, data, cleanup } = await called(dir, entry)
      isLockError(error, 'InvalidArgument', entry)
      assert.ok(error.message.includes(at(entry)), error.message)
      assert.deepEqual({ ...data }, {})
      await cleanup()
      assert.deepEqual(state(entry), before, entry)
    }
    assert.deepEqual(readdirSync(dir), names)
    assert.equal(readFileSync(at('file'), 'utf8'), 'precious')
    await other.cleanup()
  })

  test('a cleanup leaves what somebody put in the place of the claim', async () => {
    const dir = newDirectory()
    const handle = await guard(dir, name)
    rmSync(join(dir, name))
    writeFileSync(join(dir, name), 'precious')
    await handle.cleanup()
    assert.equal(readFileSync(join(dir, name), 'utf8'), 'precious')
  })
})

describe('guard between processes', () => {
  test('a killed instance frees it for the next starter at once', async () => {
    const dir = newDirectory()
    const program = await start(dir)
    assert.equal(program.state, 'OK')
    const lost = await called(dir, name)
    assert.equal(lost.error.context.pid, program.pid)
    assert.match(lost.error.context.commandLine, /instance\.mjs/)
    assert.deepEqual({ ...lost.data }, { state: 'CONFIRMED_TO_NOT_START' })
    assert.deepEqual(readdirSync(dir), [name], 'the loser leaves nothing behind')
    await program.kill('SIGKILL')
    const next = await start(dir)
    assert.equal(next.state, 'OK_STALE_LOCK_REMOVED')
    next.say({ do: 'cleanup' })
    await next.hear('cleaned')
    assert.deepEqual(readdirSync(dir), [])
    await isFree(dir, 'OK')
    await next.kill()
  })

  test('the lock goes with the process, however it ends', async () => {
    const dir = newDirectory()
    for (const how of ['its last line', 'process.exit()', 'an uncaught error', 'SIGTERM', 'SIGINT', 'SIGKILL']) {
      const program = await start(dir)
      if (how.startsWith('SIG')) await program.kill(how)
      else program.say({ do: 'end', how })
      program.child.stdin.end()
      await program.exited
      const handle = await guard(dir, name)
      assert.match(handle.state, /^OK(_STALE_LOCK_REMOVED)?$/, how)
      await handle.cleanup()
    }
  })

  test('a stopped instance lives', async () => {
    const dir = newDirectory()
    const program = await start(dir)
    program.pause()
    const error = await rejectsWith(guard(dir, name), 'AcquisitionTimeout')
    assert.equal(error.context.pid, program.pid)
    program.continue()
    program.say({ do: 'cleanup' })
    await program.hear('cleaned')
    await isFree(dir, 'OK')
    await program.kill()
  })

  test('a recycled pid does not block, another boot and another pid namespace neither', async () => {
    const dir = newDirectory()
    const program = await start(dir)
    await program.kill()
    const left = readFileSync(join(dir, name), 'utf8')
    assert.ok(left.includes(String(program.pid)))
    for (const pid of [process.pid, process.ppid, 1]) {
      writeFileSync(join(dir, name), left.replace(String(program.pid), String(pid)))
      await isFree(dir, 'OK_STALE_LOCK_REMOVED')
    }
    const own = await guard(dir, name)
    const living = readFileSync(join(dir, name), 'utf8')
    await own.cleanup()
    for (const [field, other] of [
      ['bootID', '"another"'],
      ['pidNS', '1']
    ]) {
      writeFileSync(join(dir, name), living.replace(new RegExp(`("${field}":)("[^"]*"|\\d+)`), `$1${other}`))
      await isFree(dir, 'OK_STALE_LOCK_REMOVED')
    }
  })

  test('of fifty processes one starts; when it is killed, one of the others does', async () => {
    const dir = newDirectory()
    let programs = await Promise.all(Array.from({ length: 50 }, () => prepare(dir)))
    for (let round = 0; round < 3; round++) {
      for (const program of programs) program.say({ do: 'start' })
      const answers = await Promise.all(programs.map((program) => program.hear(({ is }) => is === 'started' || is === 'refused')))
      const winners = programs.filter((_, i) => answers[i].is === 'started')
      assert.equal(winners.length, 1)
      const [winner] = winners
      for (const answer of answers) {
        // Who removes the dead one's claim and who then starts need not be the same.
        if (answer.is === 'started') assert.match(answer.state, round === 0 ? /^OK$/ : /^OK(_STALE_LOCK_REMOVED)?$/)
        else assert.deepEqual(answer, { is: 'refused', state: 'CONFIRMED_TO_NOT_START', code: 'AcquisitionTimeout', pid: winner.pid })
      }
      assert.deepEqual(readdirSync(dir), [name], 'losers leave nothing behind')
      await winner.kill()
      programs = programs.filter((program) => program !== winner)
    }
    await Promise.all(programs.map((program) => program.kill()))
  })

  test('holding it keeps no process alive, and a collected handle gives nothing up', async () => {
    const dir = newDirectory()
    const program = startSource(`
      import { setFlagsFromString } from 'node:v8'
      import { runInNewContext } from 'node:vm'
      import { guard } from 'syncguard/pid'
      setFlagsFromString('--expose-gc')
      const gc = runInNewContext('gc')
      const dir = ${JSON.stringify(dir)}
      await guard(dir, 'a')
      guard(dir, 'b', () => {})
      for (let i = 0; i < 10; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)) }
      const codes = await Promise.all(['a', 'b'].map((name) => guard(dir, name).catch(({ code }) => code)))
      console.log(JSON.stringify(codes))
    `)
    const { code, stderr } = await program.exited
    assert.equal(code, 0, stderr)
    assert.deepEqual(program.lines, [['AcquisitionTimeout', 'AcquisitionTimeout']])
  })
})

describe('guard in worker threads', () => {
  test('a thread is an instance, too: one of them starts, and what it has goes with it', async () => {
    const dir = newDirectory()
    const worker = new Worker(
      `import { parentPort, workerData } from 'node:worker_threads'
       import { guard } from 'syncguard/pid'
       parentPort.postMessage((await guard(workerData.dir, workerData.name)).state)
       setInterval(() => {}, 1000)`,
      { eval: true, execArgv: ['--input-type=module'], workerData: { dir, name } }
    )
    const state = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    assert.equal(state, 'OK')
    const error = await rejectsWith(guard(dir, name), 'AcquisitionTimeout')
    assert.equal(error.context.pid, process.pid)
    await worker.terminate()
    const handle = await until(() => guard(dir, name).catch(() => undefined), { what: 'the end of the thread' })
    assert.equal(handle.state, 'OK')
    await handle.cleanup()
  })

  test('a disposal that fails does not throw, and is logged', async (t) => {
    const log = t.mock.method(console, 'error', () => {})
    const dir = join(newDirectory(), 'in')
    const handle = await guard(dir, name)
    // Somebody put a file in the place of the directory.
    rmSync(dir, { recursive: true })
    writeFileSync(dir, '')
    await handle[Symbol.asyncDispose]()
    const [[text, told]] = log.mock.calls.map((call) => call.arguments)
    assert.equal(text, '[SyncGuard] Lock disposal failed:')
    assert.deepEqual({ ...told, error: typeof told.error }, { error: 'string', errorName: 'LockError', source: 'disposal' })
    await rejectsWith(handle.cleanup(), 'InvalidArgument')
  })
})
