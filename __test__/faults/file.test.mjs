// The faults of the reliability record on files, each for a few seconds.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { lock } from 'syncguard'
import { createFileBackend } from 'syncguard/file'
import { skipWithout } from '../support/needs.mjs'
import { startProgram } from '../support/processes.mjs'
import { temporaryDirectory } from '../support/server-process.mjs'
import { repeat, sleep, timed } from '../support/wait.mjs'
import { contend } from './contention.mjs'

describe('files under faults', { skip: skipWithout('file') }, () => {
  const store = (options = {}) => ({ name: 'file', target: `${temporaryDirectory('faults')}/locks`, options })

  test('no fault: nothing fails', () => contend({ store: store(), calm: true, inject: () => sleep(1000) }))

  test('processes killed, holders among them: nobody else notices', () =>
    contend({ store: store(), calm: true, timeoutMs: 10_000, inject: (contention) => repeat(10, 150, () => contention.killOne()) }))

  test('processes stopped past their TTL and continued', () =>
    contend({
      store: store(),
      timeoutMs: 15_000,
      inject: ({ programs }) =>
        repeat(2, 300, async (i) => {
          programs[i].pause()
          await sleep(3200)
          programs[i].continue()
        })
    }))

  test('a herd of waiters in two processes', () => contend({ store: store(), processes: 2, waiters: 40, timeoutMs: 20_000, calm: true, inject: () => sleep(1500) }))

  for (const [ownerDeath, atOnce] of [
    ['takeover', true],
    ['wait', false]
  ]) {
    test(`ownerDeath "${ownerDeath}": the lock of a killed process is ${atOnce ? 'taken over at once' : 'free at its expiry'}`, async (t) => {
      const { name, target, options } = store({ ownerDeath })
      const program = startProgram('locker', { name, target, options })
      await program.hear('ready')
      program.say({ do: 'hold', key: 'a', ttlMs: 2500 })
      await program.hear('held')
      await program.kill('SIGKILL')
      const backend = createFileBackend(target, options)
      t.after(() => backend.close())
      const { ms, error } = await timed(() => lock(backend, () => {}, { key: 'a', acquisition: { timeoutMs: 20_000, maxRetries: 1000 } }))
      assert.equal(error, undefined)
      assert.equal(ms < 1500, atOnce, `granted after ${ms} ms`)
    })
  }
})
