// A project that uses the installed package by `require`.
const { lock, LockError } = require("syncguard");
const { createRedisBackend } = require("syncguard/redis");

async function main() {
  const backend = createRedisBackend(process.env.REDIS_URL);
  console.log("cjs:", await lock(backend, () => "inside", { key: "consumer" }));
  await backend.acquire({ key: "", ttlMs: 1 }).catch((error) => {
    if (!(error instanceof LockError)) throw error;
  });
}
main();
