// A lock that is kept for as long as the work takes, and what to do when it is lost.
import { setTimeout as sleep } from "node:timers/promises";
import { createLock } from "syncguard";

const lock = await createLock();
const result = await lock(
  async (handle) => {
    for (let page = 1; page <= 4; page++) {
      handle.signal.throwIfAborted(); // the lease was lost: stop, somebody else may come in
      await sleep(500, undefined, { signal: handle.signal }); // fetch(url, { signal: handle.signal }) and so on
    }
    return "4 pages";
  },
  { key: "crawl", ttlMs: 1_000, autoExtend: true }, // 2 s of work under a lease of 1 s
);
console.log("kept through", result);
await lock.close();
