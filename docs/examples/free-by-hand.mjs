// Frees a key whose holder will never come back, by hand.
import { createBackend, getByKeyRaw } from "syncguard";

const key = process.argv[2] ?? "order:42";
const backend = await createBackend(process.env.REDIS_URL);
const info = await getByKeyRaw(backend, key);
console.log(info === null ? "nobody held it" : await backend.release({ lockId: info.lockId }));
await backend.close();
