// Section 9: `FileLock`, one lease file, as it looks from JavaScript and from other processes.
import assert from 'node:assert/strict'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync
} from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { Worker } from 'node:worker_threads'
import { FileLock } from 'syncguard/file'
import { isLockError, rejectsWith, saysWhatIsWrong, throwsWith } from '../support/assertions.mjs'
import { placeObstacles } from '../support/obstacles.mjs'
import { startProgram, startSource } from '../support/processes.mjs'
import { temporaryDirectory } from '../support/server-process.mjs'
import { sleep, until } from '../support/wait.mjs'

const { cases } = JSON.parse(readFileSync(new URL('../vectors/lease-files.json', import.meta.url), 'utf8'))
const HUNDRED_YEARS = 3_153_600_000_000
const NANOS = 1_000_000n

/** Waiting for a loss keeps no process alive, and should not. */
const alive = setInterval(() => {}, 1 << 30)
after(() => clearInterval(alive))
/** And what a failed test left running would. */
const started = []
after(() => {
  for (const program of started) program.kill()
})

const newPath = () => join(temporaryDirectory('lease'), 'lease')
const read = (path) => readFileSync(path, 'utf8')
const now = () => BigInt(Date.now()) * NANOS

/** A record as Go writes it, and with `more` as ours. */
const recordOf = ({ pid = process.pid, heartbeat = now(), owner = `${pid}-${heartbeat}-1`, more = '' } = {}) =>
  `{"version":1,"ownerID":${JSON.stringify(owner)},"pid":${pid},"lastHeartbeatUnixNano":${heartbeat}${more}}\n`

const backdate = (path, ms) => utimesSync(path, (Date.now() - ms) / 1000, (Date.now() - ms) / 1000)

async function prepare(path, options) {
  const program = startProgram('lease-file', { path, options })
  started.push(program)
  await program.hear('ready')
  return program
}

async function holder(path, options) {
  const program = await prepare(path, options)
  program.say({ do: 'acquire' })
  const { self } = await program.hear('acquired')
  assert.equal(self, true)
  return program
}

async function isRefused(path, options, pid) {
  const error = await rejectsWith(new FileLock(path, options).acquire(), 'AcquisitionTimeout')
  assert.equal(error.context.pid, pid)
  return error
}

async function isTakenOver(path, options) {
  const lock = await new FileLock(path, options).acquire()
  assert.ok(read(path).startsWith(`{"version":1,"ownerID":"${process.pid}-`))
  assert.deepEqual(await lock.release(), { ok: true })
}

describe('FileLock in one process', () => {
  test('acquire, held, release', async () => {
    const path = newPath()
    const lock = new FileLock(path)
    assert.equal(lock.path, path)
    assert.equal(lock.held, false)
    assert.equal(existsSync(path), false, 'the constructor does no I/O')
    assert.deepEqual(await lock.release(), { ok: false })
    assert.equal(await lock.acquire(), lock)
    assert.equal(lock.held, true)
    assert.deepEqual(readdirSync(dirname(path)), ['lease'], 'one file and nothing else')
    assert.deepEqual(await lock.release(), { ok: true })
    assert.equal(lock.held, false)
    assert.deepEqual(readdirSync(dirname(path)), [])
    assert.deepEqual(await lock.release(), { ok: false })
    await lock.acquire()
    assert.equal(lock.held, true)
    await lock.release()
  })

  test('disposal releases, is idempotent, never throws, and logs what went wrong', async (t) => {
    const log = t.mock.method(console, 'error', () => {})
    const path = newPath()
    const lock = await new FileLock(path).acquire()
    const { [Symbol.asyncDispose]: dispose } = lock
    assert.equal(await dispose.call(lock), undefined)
    assert.equal(existsSync(path), false)
    await dispose.call(lock)
    await new FileLock(path)[Symbol.asyncDispose]()
    // Somebody put a directory in the place of the file, and of its directory a file.
    await lock.acquire()
    rmSync(dirname(path), { recursive: true })
    writeFileSync(dirname(path), '')
    assert.equal(log.mock.callCount(), 0)
    await lock[Symbol.asyncDispose]()
    rmSync(dirname(path))
    assert.equal(log.mock.callCount(), 1)
    const [text, told] = log.mock.calls[0].arguments
    assert.equal(text, '[SyncGuard] Lock disposal failed:')
    assert.deepEqual({ ...told, error: typeof told.error }, { error: 'string', errorName: 'LockError', source: 'disposal' })
    assert.match(told.error, /lease file/)
  })

  test('the record: the fields of Go, then ours, nanoseconds in full', async () => {
    const path = newPath()
    const before = now()
    const lock = await new FileLock(path).acquire()
    const text = read(path)
    const form =
      /^\{"version":1,"ownerID":"(?<owner>(\d+)-(\d+)-(\d+))","pid":(?<pid>\d+),"lastHeartbeatUnixNano":(?<heartbeat>\d{19}),"host":(?<host>"[^"]*"),"bootID":"(?<boot>[^"]+)","pidNS":(?<namespace>\d+),"startTime":(?<start>\d+)\}\n$/
    const { owner, pid, heartbeat, host, boot, namespace, start } = form.exec(text)?.groups ?? assert.fail(text)
    assert.equal(Number(pid), process.pid)
    assert.equal(owner.split('-')[0], pid)
    for (const nanos of [owner.split('-')[1], heartbeat]) {
      assert.ok(BigInt(nanos) >= before && BigInt(nanos) <= now() + NANOS, `${nanos} is not now`)
    }
    assert.equal(JSON.parse(host), hostname())
    if (process.platform === 'linux') {
      assert.equal(boot, read('/proc/sys/kernel/random/boot_id').trim())
      assert.equal(`pid:[${namespace}]`, readlinkSync('/proc/self/ns/pid'))
      assert.equal(
        start,
        read('/proc/self/stat')
          .replace(/^.*\) /, '')
          .split(' ')[19]
      )
    }
    await lock.release()
    const second = await new FileLock(path).acquire()
    assert.notEqual(form.exec(read(path)).groups.owner, owner, 'an owner id is never given twice')
    await second.release()
  })

  test('a heartbeat overwrites its digits in place and nothing else', async () => {
    const path = newPath()
    const lock = await new FileLock(path, { leaseHeartbeatIntervalMs: 20 }).acquire()
    const [first, { ino }] = [read(path), statSync(path)]
    const digits = /\d{19}(?=,"host")/
    await until(() => read(path) !== first)
    const later = read(path)
    assert.equal(later.replace(digits, ''), first.replace(digits, ''))
    assert.ok(BigInt(digits.exec(later)[0]) > BigInt(digits.exec(first)[0]))
    assert.equal(statSync(path).ino, ino)
    await lock.release()
    await sleep(60)
    assert.equal(existsSync(path), false, 'no heartbeat brings it back')
  })

  test('modes of the file and of directories that are made, subject to the umask', async () => {
    const modeOf = (path) => statSync(path).mode & 0o777
    const umask = process.umask(0o022)
    try {
      for (const [options, file, directory] of [
        [{}, 0o644, 0o755],
        [{ fileMode: 0o600, directoryMode: 0o700 }, 0o600, 0o700],
        [{ fileMode: 0o666, directoryMode: 0o777 }, 0o644, 0o755]
      ]) {
        const path = join(dirname(newPath()), 'made', 'too', 'lease')
        const lock = await new FileLock(path, options).acquire()
        assert.equal(modeOf(path), file)
        assert.deepEqual([modeOf(dirname(path)), modeOf(dirname(dirname(path)))], [directory, directory])
        await lock.release()
      }
    } finally {
      process.umask(umask)
    }
  })

  test('a held file refuses at once, also in this very process, and tells who has it', async () => {
    const path = newPath()
    const lock = await new FileLock(path).acquire()
    // If it waited, this would take minutes.
    const error = await isRefused(path, { acquireRetryDelayMs: 60_000 }, process.pid)
    assert.equal(error.context.retryable, true)
    assert.equal(error.context.outcome, 'not-applied')
    assert.ok(error.message.includes(path) && error.message.includes(String(process.pid)))
    const again = await rejectsWith(lock.acquire(), 'InvalidArgument')
    assert.match(again.message, /held already/)
    assert.equal(lock.held, true)
    const heldError = new Error('mine')
    assert.equal((await isRefused(path, { heldError }, process.pid)).cause, heldError)
    await lock.release()
  })

  test('of many acquires at a time on one object one succeeds', async () => {
    const lock = new FileLock(newPath())
    const settled = await Promise.allSettled(Array.from({ length: 10 }, () => lock.acquire()))
    assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, 1)
    assert.equal(lock.held, true)
    assert.deepEqual(await lock.release(), { ok: true })
  })

  test('heldError is for a held file only', async () => {
    const path = newPath()
    mkdirSync(path)
    const error = await rejectsWith(new FileLock(path, { heldError: new Error('mine') }).acquire(), 'InvalidArgument')
    assert.notEqual(error.cause?.message, 'mine')
  })

  test('bad input', async () => {
    const path = newPath()
    for (const given of [undefined, null, 5, '', {}, [path], Buffer.from(path), new URL(`file://${path}`)]) {
      saysWhatIsWrong(
        throwsWith(() => new FileLock(given), 'InvalidArgument', inspect(given)),
        'path'
      )
    }
    for (const given of ['a\ud800b', '\udc00']) {
      saysWhatIsWrong(
        throwsWith(() => new FileLock(join(temporaryDirectory('lone'), given)), 'InvalidArgument', inspect(given)),
        'path'
      )
    }
    throwsWith(() => new FileLock(path, { leaseHeartbeatIntervalMs: 1501 }), 'InvalidArgument', 'a heartbeat above half the stale threshold')
    for (const given of [' ', '/', '.', '..', `${path}/`, `${path}\0`]) {
      await rejectsWith(async () => new FileLock(given).acquire(), 'InvalidArgument', inspect(given))
    }
    for (const given of [null, 5, 'x', true, [], () => {}]) {
      saysWhatIsWrong(
        throwsWith(() => new FileLock(path, given), 'InvalidArgument', inspect(given)),
        'options'
      )
    }
    const times = ['acquireRetryDelayMs', 'invalidLockStaleThresholdMs', 'leaseHeartbeatIntervalMs', 'leaseStaleThresholdMs', 'operationTimeoutMs']
    const bad = [
      ...times.flatMap((name) => [NaN, Infinity, 0, -1, 1.5, HUNDRED_YEARS + 1, '5', null, 5n].map((value) => [name, value])),
      ...[-1, 1.5, NaN, '3', null].map((value) => ['acquireRetryLimit', value]),
      ...['fileMode', 'directoryMode'].flatMap((name) => [-1, 0o10000, 0o400, 1.5, '0644', null].map((value) => [name, value])),
      ...['onLeaseLost', 'processAppearsAlive'].flatMap((name) => [5, 'x', {}].map((value) => [name, value])),
      ['nonsense', 1],
      ['__proto__x', 1]
    ]
    for (const [name, value] of bad) {
      saysWhatIsWrong(
        throwsWith(() => new FileLock(path, { [name]: value }), 'InvalidArgument', `${name}: ${inspect(value)}`),
        name
      )
    }
    assert.throws(() => FileLock(path), TypeError)
    assert.equal(existsSync(path), false)
    // What is not its own is no option, and `undefined` is none either.
    const inherited = Object.create({ nonsense: 1, onLeaseLost: 5, leaseStaleThresholdMs: -1 })
    await (await new FileLock(path, Object.assign(inherited, { fileMode: undefined, heldError: undefined })).acquire()).release()
    await (await new FileLock(path, { leaseStaleThresholdMs: HUNDRED_YEARS, acquireRetryLimit: 0 }).acquire()).release()
  })

  test('something else at the path is refused, neither followed nor touched', async () => {
    const directory = temporaryDirectory('obstacles')
    const at = (name) => join(directory, name)
    const obstacles = placeObstacles(directory)
    const names = readdirSync(directory)
    for (const name of obstacles) {
      const before = lstatSync(at(name))
      const error = await rejectsWith(new FileLock(at(name), { invalidLockStaleThresholdMs: 1 }).acquire(), 'InvalidArgument', name)
      assert.ok(error.message.includes(at(name)), error.message)
      assert.equal(error.context.pid, undefined)
      assert.deepEqual([lstatSync(at(name)).ino, lstatSync(at(name)).mode], [before.ino, before.mode])
    }
    assert.equal(read(at('file')), 'precious')
    assert.deepEqual(readdirSync(directory), names)
  })

  test('a free FileLock is forgotten, a held one is not', async () => {
    const path = newPath()
    const program = startSource(`
      import { setFlagsFromString } from 'node:v8'
      import { runInNewContext } from 'node:vm'
      import { FileLock } from 'syncguard/file'
      setFlagsFromString('--expose-gc')
      const gc = runInNewContext('gc')
      const refs = []
      await (async () => {
        for (let i = 0; i < 100; i++) {
          const lock = await new FileLock(${JSON.stringify(path)} + i, { onLeaseLost() {} }).acquire()
          await lock.release()
          refs.push(new WeakRef(lock), new WeakRef(new FileLock(${JSON.stringify(path)})))
          await new FileLock('/dev/null/x').acquire().catch(() => {})
        }
      })()
      await new FileLock(${JSON.stringify(path)}, { leaseHeartbeatIntervalMs: 10 }).acquire()
      for (let i = 0; i < 10; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)) }
      const { existsSync } = await import('node:fs')
      console.log(JSON.stringify({ left: refs.filter((ref) => ref.deref()).length, held: existsSync(${JSON.stringify(path)}) }))
    `)
    const { code, stderr } = await program.exited
    assert.equal(code, 0, stderr)
    assert.ok(program.lines[0].left <= 2, `${program.lines[0].left} of 200 are kept`)
    assert.equal(program.lines[0].held, true)
  })
})

describe('what lies at the path of a FileLock', () => {
  test('the vectors: a valid record holds by its heartbeat, other content by its age', async () => {
    assert.equal(cases.length, 35)
    for (const { content, valid, why, pid } of cases) {
      const path = newPath()
      writeFileSync(path, content)
      backdate(path, 60_000)
      const options = { leaseStaleThresholdMs: HUNDRED_YEARS, processAppearsAlive: () => true }
      if (valid) await isRefused(path, options, pid)
      else await isTakenOver(path, options)
      assert.equal(existsSync(path), valid, why)
    }
  })

  test('a heartbeat holds until the stale threshold, one from the future too', async () => {
    const path = newPath()
    for (const [ageMs, options, held] of [
      [0, {}, true],
      [2000, {}, true],
      [3000, {}, false],
      [500, { leaseStaleThresholdMs: 400, leaseHeartbeatIntervalMs: 100 }, false],
      [60_000, { leaseStaleThresholdMs: 600_000 }, true],
      [-3_600_000, {}, true]
    ]) {
      writeFileSync(path, recordOf({ heartbeat: now() - BigInt(ageMs) * NANOS }))
      backdate(path, 3_600_000) // Says nothing about a readable record.
      if (held) await isRefused(path, options, process.pid)
      else await isTakenOver(path, options)
    }
  })

  test('unreadable content is held until its age passes the invalid threshold', async () => {
    const path = newPath()
    for (const content of ['', '{', recordOf().slice(0, -3), 'null', recordOf({ owner: ' ' })]) {
      writeFileSync(path, content)
      const error = await isRefused(path, {}, undefined)
      assert.equal(read(path), content)
      const heldError = new Error('mine')
      assert.equal((await isRefused(path, { heldError }, undefined)).cause, heldError)
      assert.notEqual(error.cause, heldError)
      backdate(path, 1100)
      await isRefused(path, { invalidLockStaleThresholdMs: 60_000 }, undefined)
      backdate(path, 1300)
      await isTakenOver(path)
    }
  })

  test('a pid is probed only where host, boot, pid namespace and start time match', async () => {
    const path = newPath()
    const program = await holder(path)
    await program.kill()
    const left = read(path)
    const fresh = (text) => text.replace(/("lastHeartbeatUnixNano":)\d+/, `$1${now()}`)
    for (const [what, change] of [
      ['host', (text) => text.replace(/"host":"[^"]*"/, '"host":"elsewhere"')],
      ['bootID', (text) => text.replace(/"bootID":"[^"]*"/, '"bootID":"another"')],
      ['pidNS', (text) => text.replace(/"pidNS":\d+/, '"pidNS":1')],
      ['no startTime', (text) => text.replace(/,"startTime":\d+/, '')],
      ["Go's", (text) => text.replace(/,"host".*\}/, '}')]
    ]) {
      const changed = fresh(change(left))
      assert.notEqual(changed, fresh(left), what)
      writeFileSync(path, changed)
      await isRefused(path, {}, program.pid)
    }
    // Of this very machine and dead; and another process that got the pid.
    for (const text of [left, left.replace(/"pid":\d+/, `"pid":${process.pid}`)]) {
      writeFileSync(path, fresh(text))
      await isTakenOver(path)
    }
  })

  test('processAppearsAlive answers in place of the system', async () => {
    const path = newPath()
    const asked = []
    const answering = (answer) => ({ processAppearsAlive: (pid) => (asked.push(pid), answer()) })
    const plant = (options) => writeFileSync(path, recordOf({ pid: 4242, ...options }))
    plant()
    for (const answer of [
      () => true,
      () => undefined,
      () => Promise.resolve(false),
      () => {
        throw new Error('unknown')
      }
    ]) {
      await isRefused(path, answering(answer), 4242)
      assert.deepEqual(asked.splice(0), [4242])
    }
    await isTakenOver(
      path,
      answering(() => false)
    )
    assert.deepEqual(asked.splice(0), [4242])
    plant({ more: ',"host":"elsewhere","bootID":"another","pidNS":1,"startTime":1' })
    await isRefused(
      path,
      answering(() => false),
      4242
    )
    plant({ heartbeat: now() - 5000n * NANOS })
    await isTakenOver(
      path,
      answering(() => true)
    )
    assert.deepEqual(asked, [], 'no pid of another machine, and none whose heartbeat is old')
  })
})

describe('the loss of a FileLock', () => {
  const watched = async (path = newPath()) => {
    const losses = []
    const lock = await new FileLock(path, {
      leaseHeartbeatIntervalMs: 10,
      onLeaseLost: (...args) => {
        losses.push([...args, lock.held])
        throw new Error('changes nothing')
      }
    }).acquire()
    return { path, lock, losses }
  }

  const replacements = {
    removed: (path) => unlinkSync(path),
    'replaced by a copy': (path) => (writeFileSync(`${path}~`, read(path)), renameSync(`${path}~`, path)),
    "another owner's": (path) => writeFileSync(path, recordOf({ owner: 'somebody' })),
    truncated: (path) => truncateSync(path, 40),
    'a directory': (path) => (unlinkSync(path), mkdirSync(path)),
    'a symlink to the file itself': (path) => (renameSync(path, `${path}~`), symlinkSync(`${path}~`, path))
  }
  for (const [what, replace] of Object.entries(replacements)) {
    test(`${what}: told once, and what is there stays`, async () => {
      const { path, lock, losses } = await watched()
      replace(path)
      await until(() => losses.length > 0, { what: 'onLeaseLost' })
      const [[error, held]] = losses
      isLockError(error, 'LeaseLost')
      assert.ok(error.message.includes(path))
      assert.deepEqual([held, lock.held], [false, false])
      const there = existsSync(path) && lstatSync(path).isFile() ? read(path) : undefined
      assert.deepEqual(await lock.release(), { ok: false })
      await sleep(50)
      assert.equal(losses.length, 1)
      if (there !== undefined) assert.equal(read(path), there)
      else assert.equal(existsSync(path), what !== 'removed')
    })
  }

  test('never from a release, and a file lost once can be had again', async () => {
    const { path, lock, losses } = await watched()
    await lock.release()
    await sleep(50)
    assert.deepEqual(losses, [])
    await lock.acquire()
    unlinkSync(path)
    await until(() => losses.length === 1)
    await lock.acquire()
    assert.equal(lock.held, true)
    assert.deepEqual(await lock.release(), { ok: true })
    await lock.acquire()
    unlinkSync(path)
    await until(() => losses.length === 2)
  })

  test('a release after somebody took the file leaves it alone, and is no loss to be told', async () => {
    const losses = []
    const path = newPath()
    const lock = await new FileLock(path, { leaseHeartbeatIntervalMs: 60_000, leaseStaleThresholdMs: 120_000, onLeaseLost: (error) => losses.push(error) }).acquire()
    const others = recordOf({ owner: 'somebody' })
    writeFileSync(path, others)
    assert.deepEqual(await lock.release(), { ok: false })
    assert.equal(read(path), others)
    assert.equal(lock.held, false)
    await sleep(30)
    assert.deepEqual(losses, [])
  })
})

describe('FileLock between processes', () => {
  test('a blocked event loop keeps the file', async () => {
    const path = newPath()
    const options = { leaseStaleThresholdMs: 600, leaseHeartbeatIntervalMs: 50 }
    const program = await holder(path, options)
    program.say({ do: 'block', ms: 2500 })
    // Without the pid's word: a heartbeat that stops would make it free.
    const byHeartbeat = { ...options, processAppearsAlive: () => true }
    for (let i = 0; i < 20; i++) {
      await isRefused(path, byHeartbeat, program.pid)
      await sleep(100)
    }
    assert.equal((await program.hear('unblocked')).held, true)
    program.say({ do: 'release' })
    assert.deepEqual(await program.hear('released'), { is: 'released', ok: true, held: false })
    assert.deepEqual(program.lines, [], 'no loss was told')
    await program.kill()
  })

  test('a killed holder is taken over at once', async () => {
    const path = newPath()
    const program = await holder(path, { leaseStaleThresholdMs: 600_000 })
    await isRefused(path, {}, program.pid)
    await program.kill()
    assert.equal(existsSync(path), true)
    await isTakenOver(path, { leaseStaleThresholdMs: 600_000 })
  })

  test('a stopped holder is taken over after the stale threshold, and hears of it once', async () => {
    const path = newPath()
    const options = { leaseStaleThresholdMs: 800, leaseHeartbeatIntervalMs: 50 }
    const program = await holder(path, options)
    program.pause()
    await isRefused(path, options, program.pid)
    const successor = new FileLock(path, options)
    await until(
      () =>
        successor.acquire().then(
          () => true,
          () => false
        ),
      { what: 'the takeover' }
    )
    const record = () => read(path).replace(/("lastHeartbeatUnixNano":)\d+/, '$1')
    const taken = record()
    program.continue()
    assert.deepEqual(await program.hear('lost'), { is: 'lost', code: 'LeaseLost', held: false })
    program.say({ do: 'release' })
    assert.equal((await program.hear('released')).ok, false)
    await sleep(200)
    assert.equal(record(), taken)
    assert.equal(successor.held, true)
    assert.deepEqual(program.lines, [])
    assert.deepEqual(await successor.release(), { ok: true })
    await program.kill()
  })

  for (const how of ['its last line', 'process.exit()', 'an uncaught error']) {
    test(`a process that ends by ${how} takes its file along, for those who can't see that it is dead`, async () => {
      const path = newPath()
      const program = await holder(path)
      program.say({ do: 'end', how })
      program.child.stdin.end()
      const { code, signal } = await program.exited
      assert.deepEqual([code, signal], [how === 'an uncaught error' ? 1 : 0, null])
      assert.deepEqual(readdirSync(dirname(path)), [])
      assert.deepEqual(program.lines, [], 'no loss was told')
    })
  }

  test("a process that ends leaves another owner's file alone", async () => {
    const path = newPath()
    const program = await holder(path, { leaseHeartbeatIntervalMs: 60_000, leaseStaleThresholdMs: 120_000 })
    const others = recordOf({ owner: 'somebody' })
    writeFileSync(path, others)
    program.say({ do: 'end', how: 'process.exit()' })
    await program.exited
    assert.equal(read(path), others)
  })

  test('of fifty processes that race for stale files exactly one gets each', async () => {
    const directory = temporaryDirectory('race')
    const dead = await holder(join(directory, 'dead'))
    await dead.kill()
    const ofTheDead = read(join(directory, 'dead'))
    unlinkSync(join(directory, 'dead'))
    const options = { leaseStaleThresholdMs: 60_000, acquireRetryLimit: 1000 }
    const programs = await Promise.all(Array.from({ length: 50 }, () => prepare('unused', options)))
    const stale = {
      'nothing at all': () => {},
      "a dead owner's": (path) => writeFileSync(path, ofTheDead.replace(/("lastHeartbeatUnixNano":)\d+/, `$1${now()}`)),
      "Go's, with an old heartbeat": (path) => writeFileSync(path, recordOf({ heartbeat: now() - 120_000n * NANOS })),
      unreadable: (path) => (writeFileSync(path, '{'), backdate(path, 60_000))
    }
    const names = Array.from({ length: 50 }, (_, i) => Object.keys(stale).map((what) => `${what} ${i}`)).flat()
    const paths = names.map((name) => join(directory, name))
    for (const [i, name] of names.entries()) stale[name.replace(/ \d+$/, '')](paths[i])
    for (const program of programs) program.say({ do: 'race', paths })
    const races = await Promise.all(programs.map((program) => program.hear('raced', 60_000)))
    for (const [i, path] of paths.entries()) {
      const winners = programs.filter((_, n) => races[n].answers[i].won)
      assert.equal(winners.length, 1, `${names[i]}: ${winners.length} winners`)
      const [{ pid }] = winners
      assert.equal(JSON.parse(read(path)).pid, pid)
      for (const { answers } of races) {
        if (!answers[i].won) assert.deepEqual(answers[i], { won: false, code: 'AcquisitionTimeout', pid })
      }
    }
    assert.deepEqual(readdirSync(directory).sort(), [...names].sort(), 'losers leave nothing behind')
    assert.ok(new Set(paths.map((path) => JSON.parse(read(path)).pid)).size > 1, 'it was no race')
    for (const program of programs) program.say({ do: 'leave' })
    const left = await Promise.all(programs.map((program) => program.hear('left')))
    assert.ok(
      left.every(({ all }) => all),
      'each is still the owner of what it won'
    )
    assert.deepEqual(readdirSync(directory), [])
    for (const program of programs) assert.deepEqual(program.lines, [], 'no loss was told')
    await Promise.all(programs.map((program) => program.kill()))
  })
})

describe('FileLock in worker threads', () => {
  const startWorker = (path, body) =>
    new Worker(
      `import { parentPort, workerData } from 'node:worker_threads'
       import { FileLock } from 'syncguard/file'
       const lock = await new FileLock(workerData, { leaseHeartbeatIntervalMs: 20, leaseStaleThresholdMs: 600, onLeaseLost: ({ code }) => parentPort.postMessage(code) }).acquire()
       parentPort.postMessage('held')
       ${body}`,
      { eval: true, execArgv: ['--input-type=module'], workerData: path }
    )
  const message = (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))

  test('threads exclude each other; one that blocks keeps its file', async () => {
    const path = newPath()
    const worker = startWorker(
      path,
      `
      const end = performance.now() + 1500
      while (performance.now() < end);
      parentPort.postMessage((await lock.release()).ok)`
    )
    assert.equal(await message(worker), 'held')
    const released = message(worker)
    for (let i = 0; i < 10; i++) {
      await isRefused(path, { leaseStaleThresholdMs: 600, processAppearsAlive: () => true }, process.pid)
      await sleep(100)
    }
    assert.equal(await released, true)
    await isTakenOver(path)
  })

  test('a thread that is ended gives its file up', async () => {
    const path = newPath()
    const worker = startWorker(path, 'setInterval(() => {}, 1000)')
    assert.equal(await message(worker), 'held')
    await worker.terminate()
    await until(() => !existsSync(path), { what: 'the release of the ended thread' })
    await isTakenOver(path)
  })

  test('a loss is told in the thread that had the file', async () => {
    const path = newPath()
    const worker = startWorker(path, 'setInterval(() => {}, 1000)')
    assert.equal(await message(worker), 'held')
    const loss = message(worker)
    unlinkSync(path)
    assert.equal(await loss, 'LeaseLost')
    await worker.terminate()
  })
})
