// A project that uses the installed package by `import`.
import { lock, LockError } from "syncguard";
import { createLock, createRedisBackend } from "syncguard/redis";

const backend = createRedisBackend(process.env.REDIS_URL);
const held = await backend.acquire({ key: "consumer", ttlMs: 10_000 });
try {
  await lock(backend, () => {}, { key: "consumer", acquisition: { timeoutMs: 50 } });
} catch (error) {
  if (!(error instanceof LockError) || error.code !== "AcquisitionTimeout") throw error;
}
await held.release();
const run = createLock(process.env.REDIS_URL);
console.log("esm:", await run(() => "inside", { key: "consumer" }));
