// A lock in the Redis of an ioredis client.
import Redis from "ioredis";
import { createLock } from "syncguard/redis";

const client = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379");
const lock = createLock(client); // its settings are adopted; the client itself is never used or closed
await lock(async () => console.log("inside"), { key: "order:42" });
await lock.close();
client.disconnect();
