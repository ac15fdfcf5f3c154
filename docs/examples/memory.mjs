// Locks in memory, for tests.
import assert from "node:assert/strict";
import { createLock } from "syncguard";

/** What is to be tested: it takes the lock function it is given. */
const billOnce = (lock, order) => lock(async () => `billed ${order}`, { key: `bill:${order}` });

const lock = await createLock("memory:billing-test"); // memory:NAME keeps one test's locks apart from another's
assert.equal(await billOnce(lock, 42), "billed 42");

const busy = lock(() => new Promise((resolve) => setTimeout(resolve, 500)), { key: "bill:42" });
const acquisition = { timeoutMs: 50 };
await assert.rejects(
  lock(() => "never", { key: "bill:42", acquisition }),
  { code: "AcquisitionTimeout" },
);
await busy;
await lock.close();
console.log("ok");
