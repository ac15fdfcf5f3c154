// A project that is compiled against the installed package's types.
import { lock, LockError, type Fence, type LockBackend } from "syncguard";
import { createRedisBackend, type RedisCapabilities } from "syncguard/redis";

const backend: LockBackend<RedisCapabilities> = createRedisBackend(process.env.REDIS_URL ?? "");

const result = await lock(
  backend,
  async (handle) => {
    const fence: Fence = handle.fence;
    if (!/^\d{15}$/.test(fence)) throw new LockError("Internal", "no fence");
    return "inside";
  },
  { key: "consumer", ttlMs: 10_000, acquisition: { timeoutMs: 1000 } },
);

const held = await backend.acquire({ key: "consumer", ttlMs: 1000 });
if (held.ok) {
  const { fence, lockId }: { fence: string; lockId: string } = held;
  if (!fence || !lockId) throw new Error("a grant without fence or lock id");
} else {
  // @ts-expect-error A refused acquire has no fence.
  held.fence;
}
await held[Symbol.asyncDispose]();

// @ts-expect-error The key is required.
await lock(backend, () => 1, {}).catch(() => {});

console.log("ts:", result);
