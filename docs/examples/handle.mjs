// A lock as a handle, released at the end of its block.
import { createBackend } from "syncguard";

const backend = await createBackend();
const held = await backend.acquire({ key: "import", ttlMs: 5_000 }); // one attempt, no waiting
if (held.ok) {
  try {
    console.log("valid for", held.remainingMs(), "ms");
    await held.extend(10_000); // now + 10 s
  } finally {
    await held.release();
  }
} else {
  console.log("somebody else has it");
}
await backend.close();
