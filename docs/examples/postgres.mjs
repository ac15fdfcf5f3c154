// A lock in PostgreSQL, and its tables.
import { createLock, setupSchema } from "syncguard/postgres";

const url = process.env.POSTGRES_URL ?? "postgres://127.0.0.1:5432/postgres";
await setupSchema(url); // once, at deployment: makes the two tables where they are missing
const lock = createLock(url);
await lock(async (handle) => console.log("inside, with fence", handle.fence), { key: "order:42" });
await lock.close();
