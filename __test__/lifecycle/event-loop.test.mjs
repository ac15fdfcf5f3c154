// Sections 2 and 7: nothing keeps the process alive once its own work is done, and ending it is clean.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { uniqueKey } from '../support/keys.mjs'
import { startSource } from '../support/processes.mjs'
import { until } from '../support/wait.mjs'
import { eachBackend } from '../contract/backends.mjs'

eachBackend((fixture) => {
  const prelude = (target = fixture.target) => `
    import { ${fixture.create.name} as create } from 'syncguard/${fixture.name}'
    import { createLock, lock } from 'syncguard'
    const say = (value) => console.log(JSON.stringify(value))
    process.on('unhandledRejection', (error) => { say({ is: 'unhandled', error: String(error?.stack) }); process.exitCode = 9 })
    const backend = create(${JSON.stringify(target)}, ${JSON.stringify(fixture.options)})
    const key = ${JSON.stringify(uniqueKey('life'))}
    process.stdin.unref()
  `

  /** Runs source to its own end, and answers what it said. */
  async function runToEnd(source, { withinMs = 8000 } = {}) {
    const start = performance.now()
    const program = startSource(source)
    const late = setTimeout(() => program.kill(), withinMs)
    const { code, signal, stderr } = await program.exited
    clearTimeout(late)
    assert.equal(signal, null, `the process did not end by itself within ${withinMs} ms`)
    assert.equal(code, 0, `${stderr}${JSON.stringify(program.lines)}`)
    assert.equal(stderr, '')
    return { lines: program.lines, ms: performance.now() - start }
  }

  for (const [what, source] of [
    ['a backend that was never used', ''],
    ['an open backend with an idle connection', 'await backend.isLocked({ key })'],
    ['a lease that is held and not released', 'const held = await backend.acquire({ key, ttlMs: 60000 }); say({ is: "held", ok: held.ok })'],
    ['a lease that is kept', 'const held = await backend.acquire({ key, ttlMs: 60000, autoExtend: true }); held.signal.addEventListener("abort", () => {})'],
    ['a lease that was released', 'const held = await backend.acquire({ key, ttlMs: 60000, autoExtend: true }); await held.release()'],
    ['a lock function that waited', 'await lock(backend, () => {}, { key }); await Promise.all([1, 2, 3].map(() => lock(backend, () => {}, { key })))'],
    [
      'a lock that was not granted',
      'await backend.acquire({ key, ttlMs: 60000 }); await lock(backend, () => {}, { key, acquisition: { timeoutMs: 150 } }).catch(({ code }) => say({ is: "error", code }))'
    ]
  ]) {
    test(`${what} does not keep the process alive`, async () => {
      const { ms } = await runToEnd(prelude() + source)
      assert.ok(ms < 5000, `ended after ${ms} ms`)
    })
  }

  test('a pending operation does keep the process alive until it is answered', async () => {
    const { lines } = await runToEnd(`${prelude()}
      backend.acquire({ key, ttlMs: 1000 }).then((held) => say({ is: 'answer', ok: held.ok }))`)
    assert.deepEqual(lines, [{ is: 'answer', ok: true }])
  })

  test('a process that ends with a lock inside fn ends cleanly; its release is not awaited', async () => {
    await runToEnd(`${prelude()}
      lock(backend, () => new Promise(() => {}), { key, ttlMs: 60000 }).catch((error) => say({ is: 'error', text: String(error) }))
      await new Promise((resolve) => setTimeout(resolve, 100))
      process.exit(0)`)
  })

  test('process.exit() with operations in flight, waiters and renewals crashes nothing', async () => {
    for (let i = 0; i < 5; i++) {
      await runToEnd(`${prelude()}
        await backend.acquire({ key, ttlMs: 60000, autoExtend: { intervalMs: 5 } })
        for (let i = 0; i < 50; i++) {
          backend.acquire({ key: key + i, ttlMs: 1000 }).catch(() => {})
          lock(backend, () => {}, { key }).catch(() => {})
        }
        await new Promise((resolve) => setTimeout(resolve, ${i * 7}))
        process.exit(0)`)
    }
  })

  test('close() in the middle of everything rejects what is pending, and nothing is unhandled', async () => {
    const { lines } = await runToEnd(`${prelude()}
      const held = await backend.acquire({ key, ttlMs: 60000, autoExtend: true })
      const waiting = lock(backend, () => {}, { key, acquisition: { timeoutMs: 3000 } }).then(() => 'inside', ({ code }) => code)
      await new Promise((resolve) => setTimeout(resolve, 50))
      await backend.close()
      say({ is: 'waiting', code: await waiting })
      const after = await held.release().then((answer) => JSON.stringify(answer), ({ code }) => code)
      say({ is: 'released', after })`)
    assert.equal(lines[0].is, 'waiting')
    assert.notEqual(lines[0].code, 'inside')
    assert.equal(typeof lines[0].code, 'string')
  })

  test('twenty worker threads load it, use it, and end, one after another and at once', async () => {
    const worker = `
      import { workerData, parentPort } from 'node:worker_threads'
      const { ${fixture.create.name}: create } = await import('syncguard/${fixture.name}')
      const { lock } = await import('syncguard')
      const backend = create(workerData.target, workerData.options)
      const acquisition = { timeoutMs: 30000, maxRetries: 10000 }
      for (let i = 0; i < 5; i++) await lock(backend, ({ fence }) => parentPort.postMessage(fence), { key: workerData.key, acquisition })
      if (workerData.closes) await backend.close()`
    const { lines } = await runToEnd(
      `${prelude()}
      import { Worker } from 'node:worker_threads'
      const fences = []
      const run = (i) => new Promise((resolve, reject) => {
        const workerData = { target: ${JSON.stringify(fixture.target)}, options: ${JSON.stringify(fixture.options)}, key, closes: i % 2 === 0 }
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true, execArgv: ['--input-type=module'], workerData })
        worker.on('message', (fence) => fences.push(fence)).once('error', reject).once('exit', resolve)
      })
      const codes = []
      for (let i = 0; i < 10; i++) codes.push(await run(i))
      codes.push(...await Promise.all(Array.from({ length: 10 }, (_, i) => run(i))))
      say({ is: 'done', codes, fences: fences.length, distinct: new Set(fences).size })`,
      { withinMs: 60_000 }
    )
    assert.deepEqual(lines, [{ is: 'done', codes: Array(20).fill(0), fences: 100, distinct: 100 }])
  })

  test('a worker that is terminated in the middle of everything takes nothing down', async () => {
    const worker = `
      import { workerData, parentPort } from 'node:worker_threads'
      const { ${fixture.create.name}: create } = await import('syncguard/${fixture.name}')
      const { lock } = await import('syncguard')
      const backend = create(workerData.target, workerData.options)
      parentPort.postMessage('ready')
      for (;;) await Promise.all([1, 2, 3].map(() => lock(backend, () => {}, { key: workerData.key, acquisition: { timeoutMs: 30000, maxRetries: 10000 } })))`
    const { lines } = await runToEnd(
      `${prelude()}
      import { Worker } from 'node:worker_threads'
      for (let i = 0; i < 20; i++) {
        const workerData = { target: ${JSON.stringify(fixture.target)}, options: ${JSON.stringify(fixture.options)}, key }
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true, execArgv: ['--input-type=module'], workerData })
        await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
        await new Promise((resolve) => setTimeout(resolve, i))
        await worker.terminate()
      }
      say({ is: 'result', inside: await lock(backend, () => 'inside', { key, acquisition: { timeoutMs: 10000, maxRetries: 10000 } }) })`,
      { withinMs: 60_000 }
    )
    assert.deepEqual(lines, [{ is: 'result', inside: 'inside' }])
  })
})

test('loading the package alone opens nothing and ends at once', async () => {
  const program = startSource(`import 'syncguard'; import 'syncguard/common'; import 'syncguard/redis'; console.log('{"is":"loaded"}')`)
  await program.hear('loaded')
  await until(() => program.ended, { timeoutMs: 3000 })
  assert.deepEqual(program.ended, { code: 0, signal: null })
})
