// Section 6 across processes: wake-ups, what happens without them, turns, and what waiting costs the store.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lock } from 'syncguard'
import { violations } from '../support/history.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { deferred, sleep, timed, until } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'

/** A poll timer that no test waits for. */
const slowTimer = { timeoutMs: 60_000, retryDelayMs: 25_000, backoff: 'fixed', jitter: 'none' }

eachBackend((fixture) => {
  test('a release in another process wakes a waiter long before its timer', async () => {
    const key = uniqueKey()
    const program = await fixture.program()
    const waiting = []
    for (let round = 0; round < 3; round++) {
      program.say({ do: 'hold', key })
      await program.hear('held')
      const work = lock(fixture.open(), () => performance.now(), { key, acquisition: slowTimer })
      await sleep(150)
      const start = performance.now()
      program.say({ do: 'release' })
      waiting.push((await work) - start)
      await program.hear('released')
    }
    assert.ok(Math.max(...waiting) < 3000, `granted ${waiting.map(Math.round).join(', ')} ms after the release`)
    await program.kill()
  })

  test('a release in this process wakes a waiter of another process', async () => {
    const key = uniqueKey()
    const program = await fixture.program()
    const held = await fixture.open().acquire({ key, ttlMs: 30_000 })
    program.say({ do: 'contend', key, turns: 1, acquisition: slowTimer })
    await sleep(200)
    const { ms } = await timed(async () => {
      await held.release()
      await program.hear('turn')
    })
    assert.ok(ms < 3000, `granted after ${ms} ms`)
    await program.kill()
  })

  test('keys that come free at any moment after their waiters came: none waits for its timer', async () => {
    const [backend, holder] = [fixture.open(), fixture.open()]
    for (let round = 0; round < 5; round++) {
      const keys = Array.from({ length: 10 }, () => uniqueKey())
      const { ms } = await timed(() =>
        Promise.all(
          keys.map(async (key, i) => {
            const held = await holder.acquire({ key, ttlMs: 60_000 })
            const waiters = [1, 2, 3].map(() => lock(backend, () => sleep(1), { key, acquisition: slowTimer }))
            await sleep(i % 6)
            await held.release()
            await Promise.all(waiters)
          })
        )
      )
      assert.ok(ms < 3000, `all had their turn after ${ms} ms`)
    }
  })

  test('wait: "poll" hears no wake-ups', async () => {
    const key = uniqueKey()
    const backend = fixture.open()
    const held = await backend.acquire({ key, ttlMs: 30_000 })
    const acquisition = { timeoutMs: 10_000, retryDelayMs: 500, backoff: 'fixed', jitter: 'none', wait: 'poll' }
    const work = timed(() => lock(backend, () => {}, { key, acquisition }))
    await sleep(50)
    await held.release()
    const { ms, error } = await work
    assert.equal(error, undefined)
    assert.ok(ms >= 480, `granted after ${ms} ms`)
  })

  test('the lease of a holder that was killed is granted at its expiry at the latest', async () => {
    const key = uniqueKey()
    const program = await fixture.program()
    program.say({ do: 'hold', key, ttlMs: 1500 })
    const { fence } = await program.hear('held')
    const work = timed(() => lock(fixture.open(), (handle) => handle.fence, { key, acquisition: slowTimer }))
    await sleep(100)
    await program.kill('SIGKILL')
    const { ms, lagMs, value } = await work
    assert.ok(ms < fixture.freeAfter(1500) + 1000 + lagMs, `granted after ${ms} ms`)
    assert.ok(value > fence)
  })

  test('processes take turns', async () => {
    const key = uniqueKey()
    const programs = await Promise.all(Array.from({ length: 4 }, () => fixture.program()))
    const acquisition = { timeoutMs: 60_000, maxRetries: 10_000 }
    for (const program of programs) program.say({ do: 'contend', key, waiters: 5, holdMs: 2, acquisition })
    const turnsOf = ({ lines }) => lines.filter(({ is }) => is === 'turn')
    // So many that chance evens out, where nothing but chance decides; however long this machine takes. Whoever is kept
    // from his turns stays behind, however many more there are.
    let counted
    for (const turns of [1200, 2400, 3600]) {
      await until(() => together(programs.map(turnsOf)).flat().length >= turns, { timeoutMs: 60_000, everyMs: 50, what: `${turns} turns` })
      counted = together(programs.map(turnsOf))
      if (jain(counted.map(({ length }) => length)) >= 0.95) break
    }
    for (const program of programs) program.say({ do: 'stop' })
    await Promise.all(programs.map((program) => program.hear('contended', 60_000)))
    for (const { lines } of programs)
      assert.deepEqual(
        lines.filter(({ is }) => is !== 'turn'),
        []
      )
    assert.deepEqual(violations(programs.flatMap(turnsOf)), [])
    const counts = counted.map(({ length }) => length)
    const waiters = counted.flatMap((ofProcess) => [0, 1, 2, 3, 4].map((waiter) => ofProcess.filter((line) => line.waiter === waiter).length))
    assert.ok(jain(counts) >= 0.95, `turns per process: ${counts}`)
    assert.ok(jain(waiters) >= 0.9, `turns per waiter: ${waiters}`)
    await Promise.all(programs.map((program) => program.kill()))
  })

  test('forty waiters on a key that comes free late are all served', async () => {
    const key = uniqueKey()
    const run = fixture.openLock()
    const inside = deferred()
    const holder = run(() => inside.promise, { key })
    await sleep(50)
    const served = []
    const waiters = Array.from({ length: 40 }, (_, i) => run(() => served.push(i), { key, acquisition: { timeoutMs: 20_000 } }))
    await sleep(1500)
    inside.resolve()
    await Promise.all([holder, ...waiters])
    assert.equal(served.length, 40)
  })
})

/** The turns, per process, since every process has had one: a slow start is no unfairness. */
function together(turns) {
  if (turns.some(({ length }) => length === 0)) return []
  // biome-ignore lint/complexity/useMathMinMax: Math.max refuses a BigInt.
  const since = turns.map(([first]) => BigInt(first.returned)).reduce((a, b) => (a > b ? a : b))
  return turns.map((ofProcess) => ofProcess.filter(({ returned }) => BigInt(returned) > since))
}

/** Jain's index of fairness: 1 when all are equal, 1/n when one has everything. */
function jain(counts) {
  const sum = counts.reduce((total, count) => total + count, 0)
  return sum ** 2 / (counts.length * counts.reduce((total, count) => total + count ** 2, 0))
}

eachBackend(
  (fixture) => {
    test('a holder that sends no wake-ups is waited for by timer', async () => {
      const key = uniqueKey()
      const backend = fixture.open()
      await backend.acquire({ key, ttlMs: 60_000 })
      const acquisition = { timeoutMs: 20_000, retryDelayMs: 300, backoff: 'fixed', jitter: 'none', maxRetries: 100 }
      const work = lock(fixture.open(), () => 'inside', { key, acquisition })
      await sleep(100)
      await fixture.remove(key)
      assert.equal(await work, 'inside')
    })

    test('200 idle waiters of a process cost what one costs', async () => {
      const key = uniqueKey()
      const run = fixture.openLock()
      const held = await fixture.open().acquire({ key, ttlMs: 60_000 })
      const acquisition = { timeoutMs: 60_000, maxRetries: 1000, retryDelayMs: 400, backoff: 'fixed' }
      let served = 0
      const waiters = Array.from({ length: 200 }, () => run(() => served++, { key, acquisition }))
      await sleep(500)
      const requests = await fixture.requestsDuring(() => sleep(1500))
      assert.ok(requests.length <= 8, `${requests.length} requests in 1.5 s at one retry every 0.4 s`)
      await held.release()
      await Promise.all(waiters)
      assert.equal(served, 200)
    })

    test('a waiter whose connection is cut again and again still gets its turn', async () => {
      const { proxy, open } = await fixture.proxied()
      const key = uniqueKey()
      const held = await fixture.open().acquire({ key, ttlMs: 60_000 })
      const work = lock(open(), () => 'inside', { key, acquisition: { timeoutMs: 20_000, maxRetries: 1000, retryDelayMs: 200 } })
      for (let i = 0; i < 5; i++) {
        await sleep(60)
        proxy.reset()
      }
      await held.release()
      assert.equal(await work, 'inside')
    })
  },
  { where: overNetwork }
)
