// A lock in Redis.
import { createLock } from "syncguard/redis";

const lock = createLock(process.env.REDIS_URL ?? "redis://127.0.0.1:6379");
const total = await lock(
  async () => 19.9 + 5, // what the function returns is what lock() returns
  { key: "order:42", ttlMs: 10_000, acquisition: { timeoutMs: 2_000 } },
);
console.log("charged", total);
await lock.close();
