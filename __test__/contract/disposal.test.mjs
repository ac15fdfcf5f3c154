// Section 2, disposal: idempotent, waits for a release in flight, never throws, is bounded, reports.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLockError, rejectsWith, tellsNoSecret } from '../support/assertions.mjs'
import { startSource } from '../support/processes.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { settingUp, sleep, timed, until } from '../support/wait.mjs'
import { eachBackend, overNetwork } from './backends.mjs'

eachBackend(
  (fixture) => {
    /** A lease on a store that has just stopped to answer. */
    async function heldOnFrozenStore(options) {
      const { proxy, open } = await fixture.proxied()
      const backend = open(options)
      let key
      const held = await settingUp(() => backend.acquire({ key: (key = uniqueKey()), ttlMs: 30_000 }))
      proxy.freeze()
      return { proxy, key, held }
    }

    test('disposal never throws: its error goes to onReleaseError, once', async () => {
      const reports = []
      const { key, held } = await heldOnFrozenStore({
        operationTimeoutMs: 200,
        onReleaseError: (...args) => reports.push(args)
      })
      await held[Symbol.asyncDispose]()
      await held[Symbol.asyncDispose]()
      assert.equal(reports.length, 1)
      const [error, context] = reports[0]
      isLockError(error, 'NetworkTimeout')
      assert.deepEqual({ ...context }, { lockId: held.lockId, key, source: 'disposal' })
    })

    test('what onReleaseError throws disturbs nobody', async () => {
      const { held } = await heldOnFrozenStore({
        operationTimeoutMs: 100,
        onReleaseError: () => {
          throw new Error('mine')
        }
      })
      await held[Symbol.asyncDispose]()
    })

    test('disposeTimeoutMs bounds how long disposal may take, and running into it is reported', async () => {
      const reports = []
      const { held } = await heldOnFrozenStore({ disposeTimeoutMs: 150, onReleaseError: (error) => reports.push(error) })
      const { ms, lagMs } = await timed(() => held[Symbol.asyncDispose]())
      assert.ok(ms >= 140 && ms < 200 + lagMs, `took ${ms} ms, ${lagMs} of them the machine's`)
      assert.equal(reports.length, 1)
      assert.match(reports[0].message, /disposeTimeoutMs/)
    })

    test('disposal waits for a release in flight and sends no second one', async () => {
      const { proxy, open } = await fixture.proxied()
      const backend = open({ onReleaseError: (error) => assert.fail(error) })
      const held = await backend.acquire({ key: uniqueKey(), ttlMs: 30_000 })
      for (const connection of proxy.connections) connection.toClient.delay(120)
      let released
      const release = held.release().then((answer) => (released = answer))
      await held[Symbol.asyncDispose]()
      assert.deepEqual(released, { ok: true })
      await release
    })

    test('after a release that failed, a later one may try again', async () => {
      const { proxy, key, held } = await heldOnFrozenStore({ operationTimeoutMs: 200 })
      const error = await rejectsWith(held.release(), 'NetworkTimeout')
      assert.equal(error.context.outcome, 'unknown')
      assert.equal(held.isValid(), false, 'a lease whose release has been sent is not to be relied on')
      proxy.thaw()
      assert.deepEqual(await held.release(), { ok: true }, 'gone by our own first release counts as released')
      assert.equal(await fixture.observer.isLocked({ key }), false)
      assert.deepEqual(await held.release(), { ok: false })
    })

    test('disposal after a failed release tries once more', async () => {
      const reports = []
      const { proxy, key, held } = await heldOnFrozenStore({ operationTimeoutMs: 200, onReleaseError: (error) => reports.push(error) })
      await rejectsWith(held.release(), 'NetworkTimeout')
      proxy.thaw()
      await held[Symbol.asyncDispose]()
      assert.equal(await fixture.observer.isLocked({ key }), false)
      assert.deepEqual(reports, [])
    })

    test('a release that is aborted does not stop a later disposal', async () => {
      const { proxy, key, held } = await heldOnFrozenStore({ operationTimeoutMs: 5000 })
      const controller = new AbortController()
      const release = held.release(controller.signal)
      await sleep(20)
      controller.abort()
      await rejectsWith(release, 'Aborted')
      proxy.thaw()
      await held[Symbol.asyncDispose]()
      await until(async () => !(await fixture.observer.isLocked({ key })), { what: 'the release' })
    })

    for (const [env, logs] of [
      [{}, true],
      [{ NODE_ENV: 'production' }, false],
      [{ NODE_ENV: 'production', SYNCGUARD_DEBUG: 'true' }, true]
    ]) {
      test(`by default a failed disposal is ${logs ? '' : 'not '}logged with ${JSON.stringify(env)}, without key or lock id`, async () => {
        const { proxy, target } = await fixture.proxied()
        const key = uniqueKey('very-secret')
        const program = startSource(
          `import { ${fixture.create.name} as create } from 'syncguard/${fixture.name}'
           const backend = create(${JSON.stringify(target)}, { ...${JSON.stringify(fixture.options)}, operationTimeoutMs: 300 })
           const held = await backend.acquire({ key: ${JSON.stringify(key)}, ttlMs: 30000 })
           console.log(JSON.stringify({ is: 'held', lockId: held.lockId }))
           await new Promise((resolve) => process.stdin.once('data', resolve))
           process.stdin.destroy()
           await held[Symbol.asyncDispose]()
           await backend.close()`,
          { env: { NODE_ENV: '', SYNCGUARD_DEBUG: '', ...env } }
        )
        const { lockId } = await program.hear('held')
        proxy.freeze()
        program.say('go')
        const { code, stderr } = await program.exited
        assert.equal(code, 0, stderr)
        const line = /^\[SyncGuard\] Lock disposal failed: \{\s+error: '[^']+',\s+errorName: 'LockError',\s+source: 'disposal'\s+\}$/m
        if (logs) assert.match(stderr, line)
        else assert.equal(stderr, '')
        tellsNoSecret(stderr, key, lockId)
      })
    }
  },
  { where: overNetwork }
)
