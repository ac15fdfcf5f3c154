// Who holds a key.
import { createBackend, getByKey } from "syncguard";

const backend = await createBackend(process.env.REDIS_URL);
const held = await backend.acquire({ key: "order:42", ttlMs: 10_000 });

const info = await getByKey(backend, "order:42");
if (info === null) {
  console.log("nobody");
} else {
  const seconds = (info.expiresAtMs - Date.now()) / 1000;
  console.log(`lock ${info.lockIdHash}, fence ${info.fence}, for another ${seconds.toFixed(1)} s`);
}
await held.release();
await backend.close();
