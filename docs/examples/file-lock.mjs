// A lease file, compatible with the Go library.
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileLock } from "syncguard/file";

const lock = new FileLock(join(tmpdir(), "my-app.lock"), {
  onLeaseLost: (error) => console.error("stop writing:", error.message),
});
try {
  await lock.acquire(); // answers at once: it does not wait for the holder
  console.log("held:", lock.held);
} catch (error) {
  if (error.code !== "AcquisitionTimeout") throw error;
  console.error("held by process", error.context.pid);
} finally {
  await lock.release();
}
