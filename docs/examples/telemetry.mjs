// Events of every operation.
import { createBackend, lock, withTelemetry } from "syncguard";

const plain = await createBackend();
const backend = withTelemetry(plain, {
  onEvent: ({ type, result, reason, durationMs }) => console.log(type, result, reason ?? "", durationMs),
});
await lock(backend, async () => {}, { key: "order:42" });
await backend.close();
