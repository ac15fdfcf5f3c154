// A lock as a handle, in TypeScript.
import { createBackend } from "syncguard";

async function importOnce(): Promise<string> {
  await using backend = await createBackend();
  await using held = await backend.acquire({ key: "import", ttlMs: 5_000 });
  if (!held.ok) return "somebody else has it";
  return `held for another ${held.remainingMs()} ms`;
} // released, then closed, also when something was thrown

importOnce().then(console.log);
