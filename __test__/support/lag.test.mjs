// An allowance for the machine's delay must be that delay: none where there is none, all of it where there is some.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Lag, onSteadyMachine } from './lag.mjs'
import { block, sleep, timed } from './wait.mjs'

test('a delay of this process is measured', async () => {
  const { ms, lagMs } = await timed(async () => {
    await sleep(20)
    block(150)
    await sleep(20)
    block(150)
  })
  assert.ok(lagMs > 270 && lagMs < ms, `${lagMs} of ${ms} ms`)
})

test('what the work itself waits for is no delay', async () => {
  const { ms, lagMs } = await timed(() => sleep(400))
  assert.ok(ms - lagMs > 200, `${lagMs} of ${ms} ms`)
})

test('a server that answers late is measured by its probe', async () => {
  const lag = new Lag(() => sleep(120))
  await sleep(30)
  assert.ok((await lag.stop()).worstMs >= 110)
})

test('what fails is tried again only when the machine stood still', async () => {
  let attempts = 0
  const work = () => {
    attempts++
    if (attempts === 1) block(300)
    throw new Error('it fails')
  }
  await assert.rejects(onSteadyMachine({ bearsMs: 200 }, work), /it fails \(the machine stood still/)
  assert.equal(attempts, 2)
  assert.equal(await onSteadyMachine({ bearsMs: 200 }, async () => 'fine'), 'fine')
})
