// Section 9: FileLock, one lease file that keeps others out.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { FileLock } from 'syncguard/file'
import { rejectsWith, saysWhatIsWrong, throwsWith } from '../support/assertions.mjs'
import { skipWithout } from '../support/needs.mjs'
import { startProgram } from '../support/processes.mjs'
import { temporaryDirectory } from '../support/server-process.mjs'
import { sleep, timed, until } from '../support/wait.mjs'

const { cases } = JSON.parse(readFileSync(new URL('../vectors/lease-files.json', import.meta.url), 'utf8'))
const DEAD_PID = 2 ** 22 - 3 // Above what the kernel gives out by default.
const nanos = (ms) => `${BigInt(Math.round(ms)) * 1_000_000n}`
const record = (pid, ageMs = 0, owner = `${pid}-1-1`) => `{"version":1,"ownerID":"${owner}","pid":${pid},"lastHeartbeatUnixNano":${nanos(Date.now() - ageMs)}}\n`

describe('FileLock', { skip: skipWithout('file') }, () => {
  const dir = temporaryDirectory('lease-files')
  let count = 0
  const fresh = () => join(dir, `${++count}.lease`)
  const claimant = async (path, more = {}) => {
    const program = startProgram('claimant', { kind: 'file', path, ...more })
    return { program, told: await program.hear('told') }
  }

  test('acquire writes one whole record, release removes the file', async () => {
    const path = join(dir, 'made', 'for', 'it.lease')
    const lock = new FileLock(path)
    assert.equal(lock.path, path)
    assert.equal(lock.held, false)
    assert.equal(await lock.acquire(), lock)
    assert.equal(lock.held, true)
    const content = readFileSync(path, 'utf8')
    assert.match(content, /^\{"version":1,"ownerID":"\d+-\d+-\d+","pid":\d+,"lastHeartbeatUnixNano":\d{19},.*\}\n$/)
    const { pid, host, bootID, pidNS, startTime } = JSON.parse(content)
    assert.equal(pid, process.pid)
    for (const field of [host, bootID, pidNS, startTime]) assert.ok(field !== undefined && field !== '')
    assert.equal(statSync(path).mode & 0o777, 0o644 & ~process.umask())
    assert.deepEqual(await lock.release(), { ok: true })
    assert.equal(lock.held, false)
    assert.deepEqual(readdirSync(join(path, '..')).filter((name) => name === 'it.lease'), [])
    assert.deepEqual(await lock.release(), { ok: false })
  })

  test('modes are options', async () => {
    const path = join(dir, 'modes', 'x.lease')
    const lock = await new FileLock(path, { fileMode: 0o600, directoryMode: 0o700 }).acquire()
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(statSync(join(path, '..')).mode & 0o777, 0o700)
    await lock.release()
  })

  test('a held file refuses at once, with the holder; heldError is the cause', async () => {
    const path = fresh()
    const first = await new FileLock(path).acquire()
    const { ms, error } = await timed(() => new FileLock(path).acquire())
    assert.equal(error.code, 'AcquisitionTimeout')
    assert.equal(error.context.pid, process.pid)
    assert.ok(ms < 1000, `refused after ${ms} ms`)
    const heldError = new Error('busy')
    const refused = await rejectsWith(new FileLock(path, { heldError }).acquire(), 'AcquisitionTimeout')
    assert.equal(refused.cause, heldError)
    assert.equal(refused.context.pid, process.pid)
    await first.release()
    const second = await new FileLock(path).acquire()
    assert.deepEqual(await second.release(), { ok: true })
  })

  test('disposal releases, is idempotent and never throws', async () => {
    const path = fresh()
    const lock = await new FileLock(path).acquire()
    await Promise.all([lock[Symbol.asyncDispose](), lock[Symbol.asyncDispose]()])
    assert.throws(() => statSync(path), { code: 'ENOENT' })
    await lock[Symbol.asyncDispose]()
  })

  test('the heartbeat changes 19 digits in place', async () => {
    const path = fresh()
    const lock = await new FileLock(path, { leaseHeartbeatIntervalMs: 20, leaseStaleThresholdMs: 2000 }).acquire()
    const [before, inode] = [readFileSync(path, 'utf8'), statSync(path).ino]
    await until(() => readFileSync(path, 'utf8') !== before, { what: 'a heartbeat' })
    const after = readFileSync(path, 'utf8')
    const blank = (content) => content.replace(/"lastHeartbeatUnixNano":\d{19}/, '')
    assert.equal(blank(after), blank(before))
    assert.equal(statSync(path).ino, inode)
    await lock.release()
  })

  test('records of others: valid ones hold, invalid ones until they are old', async () => {
    for (const { content, valid, why } of cases) {
      const path = fresh()
      writeFileSync(path, content)
      // Of this moment, whatever the vector says: a living pid and a fresh heartbeat, or an age of no second.
      const living = valid ? content.replace(/("lastHeartbeatUnixNano"\s*:\s*)\d+/, `$1${nanos(Date.now())}`) : content
      writeFileSync(path, living)
      const error = await rejectsWith(new FileLock(path, { processAppearsAlive: () => true }).acquire(), 'AcquisitionTimeout', why)
      assert.equal(error.context.pid, valid ? JSON.parse(living).pid : undefined, why)
      assert.equal(readFileSync(path, 'utf8'), living, why)
      if (valid) continue
      const old = new Date(Date.now() - 5000)
      utimesSync(path, old, old)
      const lock = await new FileLock(path).acquire()
      assert.equal(JSON.parse(readFileSync(path, 'utf8')).pid, process.pid, why)
      await lock.release()
    }
  })

  test("a foreign host's record is judged by its heartbeat alone; a clock set forward steals nothing", async () => {
    const path = fresh()
    writeFileSync(path, record(DEAD_PID, 1000))
    assert.equal((await rejectsWith(new FileLock(path).acquire(), 'AcquisitionTimeout')).context.pid, DEAD_PID)
    writeFileSync(path, record(DEAD_PID, 60_000))
    const lock = await new FileLock(path).acquire()
    await lock.release()
  })

  test('processAppearsAlive is asked, and what it throws counts as alive', async () => {
    const path = fresh()
    const asked = []
    writeFileSync(path, record(DEAD_PID, 0))
    await rejectsWith(new FileLock(path, { processAppearsAlive: () => { throw new Error('no idea') } }).acquire(), 'AcquisitionTimeout')
    const lock = await new FileLock(path, { processAppearsAlive: (pid) => (asked.push(pid), false) }).acquire()
    assert.deepEqual(asked, [DEAD_PID])
    await lock.release()
  })

  test('bad input is refused before any I/O', () => {
    for (const path of ['', 'a\0b', undefined, null, 5, {}]) throwsWith(() => new FileLock(path), 'InvalidArgument', `path ${String(path)}`)
    for (const [options, name] of [
      [{ acquireRetryLimit: -1 }, 'acquireRetryLimit'],
      [{ acquireRetryLimit: 1.5 }, 'acquireRetryLimit'],
      [{ acquireRetryDelayMs: '20' }, 'acquireRetryDelayMs'],
      [{ invalidLockStaleThresholdMs: NaN }, 'invalidLockStaleThresholdMs'],
      [{ leaseHeartbeatIntervalMs: 0 }, 'leaseHeartbeatIntervalMs'],
      [{ leaseHeartbeatIntervalMs: 4000 }, 'leaseHeartbeatIntervalMs'],
      [{ leaseStaleThresholdMs: -5 }, 'leaseStaleThresholdMs'],
      [{ fileMode: 0o10000 }, 'fileMode'],
      [{ directoryMode: 'rwx' }, 'directoryMode'],
      [{ onLeaseLost: 'x' }, 'onLeaseLost'],
      [{ processAppearsAlive: 5 }, 'processAppearsAlive'],
      [{ leaseStaleTresholdMs: 5 }, 'leaseStaleTresholdMs']
    ]) {
      saysWhatIsWrong(throwsWith(() => new FileLock(fresh(), options), 'InvalidArgument', JSON.stringify(options)), name)
    }
  })

  test('what is no file is refused, not followed and not deleted', async () => {
    const target = join(dir, 'elsewhere')
    for (const [what, make] of [
      ['a directory', (path) => mkdirSync(path)],
      ['a symlink', (path) => (writeFileSync(target, 'mine'), symlinkSync(target, path))],
      ['a symlink to nothing', (path) => symlinkSync(join(dir, 'nothing'), path)],
      ['a FIFO', (path) => execFileSync('mkfifo', [path])]
    ]) {
      const path = fresh()
      make(path)
      const before = lstatSync(path)
      const { error, ms } = await timed(() => new FileLock(path).acquire())
      assert.equal(error?.code, 'InvalidArgument', `${what}: ${error}`)
      assert.ok(ms < 2000, `${what}: ${ms} ms`)
      assert.deepEqual([lstatSync(path).ino, lstatSync(path).mode], [before.ino, before.mode], what)
    }
    assert.equal(readFileSync(target, 'utf8'), 'mine')
  })

  for (const [how, take] of [
    ['deleted', (path) => rmSync(path)],
    ['overwritten', (path) => writeFileSync(path, record(process.pid, 0, 'somebody-else'))],
    ['replaced', (path) => (writeFileSync(`${path}.new`, record(process.pid, 0, 'somebody-else')), renameSync(`${path}.new`, path))]
  ]) {
    test(`a file that is ${how} is lost: told once, and release leaves it alone`, async () => {
      const path = fresh()
      const told = []
      const lock = await new FileLock(path, { leaseHeartbeatIntervalMs: 20, onLeaseLost: (error) => told.push(error) }).acquire()
      take(path)
      await until(() => told.length > 0, { what: 'onLeaseLost' })
      assert.equal(told[0].code, 'LeaseLost')
      assert.equal(lock.held, false)
      const left = how === 'deleted' ? undefined : readFileSync(path, 'utf8')
      assert.deepEqual(await lock.release(), { ok: false })
      await sleep(100)
      assert.equal(told.length, 1)
      if (left !== undefined) assert.equal(readFileSync(path, 'utf8'), left)
    })
  }

  test('a release is never told as a loss', async () => {
    const told = []
    for (let i = 0; i < 20; i++) {
      const lock = await new FileLock(fresh(), { leaseHeartbeatIntervalMs: 5, onLeaseLost: (error) => told.push(error) }).acquire()
      await sleep(i)
      await lock.release()
    }
    await sleep(50)
    assert.deepEqual(told, [])
  })

  test('a blocked event loop keeps its file', async () => {
    const path = fresh()
    const { program, told } = await claimant(path, { options: { leaseStaleThresholdMs: 1000, leaseHeartbeatIntervalMs: 50 } })
    assert.equal(told.won, true)
    program.say({ do: 'block', ms: 3000 })
    for (let i = 0; i < 5; i++) {
      await sleep(500)
      await rejectsWith(new FileLock(path, { leaseStaleThresholdMs: 1000, processAppearsAlive: () => true }).acquire(), 'AcquisitionTimeout')
    }
    assert.equal((await program.hear('blocked')).held, true)
    program.say({ do: 'release' })
    assert.deepEqual((await program.hear('released')).answer, { ok: true })
    assert.equal((await program.exited).code, 0, 'nothing keeps the process')
  })

  test('the file of a killed process, and of one that just exits, is there for the next one at once', async () => {
    for (const end of [(program) => program.kill('SIGKILL'), (program) => (program.say({ do: 'exit' }), program.exited)]) {
      const path = fresh()
      const { program, told } = await claimant(path)
      assert.equal(told.won, true)
      await rejectsWith(new FileLock(path).acquire(), 'AcquisitionTimeout')
      await end(program)
      const { ms, value } = await timed(() => new FileLock(path).acquire())
      assert.ok(ms < 1000, `taken over after ${ms} ms`)
      await value.release()
    }
  })

  test('a stopped holder loses its file when its heartbeat is old, and hears of it', async () => {
    const path = fresh()
    const { program } = await claimant(path, { options: { leaseStaleThresholdMs: 600, leaseHeartbeatIntervalMs: 50 } })
    program.pause()
    const eager = () => new FileLock(path, { leaseStaleThresholdMs: 600, leaseHeartbeatIntervalMs: 50 }).acquire()
    await rejectsWith(eager, 'AcquisitionTimeout')
    const lock = await until(() => eager().catch(() => undefined), { what: 'the take-over', everyMs: 50 })
    const ours = () => JSON.parse(readFileSync(path, 'utf8')).pid
    assert.equal(ours(), process.pid)
    program.continue()
    assert.equal((await program.hear('lost')).code, 'LeaseLost')
    assert.equal(ours(), process.pid, 'its heartbeat went nowhere')
    await lock.release()
    await program.kill()
  })

  test('of many processes that race for a dead holder’s file exactly one wins', async () => {
    for (let round = 0; round < 2; round++) {
      const path = fresh()
      const { program } = await claimant(path)
      await program.kill('SIGKILL')
      const at = Date.now() + 2500
      const racers = await Promise.all(Array.from({ length: 12 }, () => claimant(path, { at })))
      const winners = racers.filter(({ told }) => told.won)
      assert.equal(winners.length, 1, `round ${round}`)
      for (const { told } of racers.filter((each) => !winners.includes(each))) assert.equal(told.code, 'AcquisitionTimeout')
      assert.equal(JSON.parse(readFileSync(path, 'utf8')).pid, winners[0].program.pid)
      await Promise.all(racers.map((each) => each.program.kill()))
    }
  })
})
