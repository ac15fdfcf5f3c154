// One of the processes of the quickstart: takes the lock a few times.
import { setTimeout as sleep } from 'node:timers/promises'
import { createLock } from 'syncguard'

const turns = Number(process.argv[2])
const tell = (message) => new Promise((resolve) => process.send(message, resolve))

const lock = await createLock() // No target: SYNCGUARD_URL, or files

await tell({ is: 'ready' })
await new Promise((resolve) => process.once('message', resolve))
for (let turn = 0; turn < turns; turn++) {
  await tell({ is: 'waiting' })
  await lock(
    async ({ fence }) => {
      await tell({ is: 'inside', fence })
      await sleep(300)
      await tell({ is: 'leaving' })
    },
    { key: 'the-door', ttlMs: 2000, acquisition: { timeoutMs: 15_000, maxRetries: 1000 } }
  )
}
await tell({ is: 'done' })
await lock.close()
process.disconnect()
