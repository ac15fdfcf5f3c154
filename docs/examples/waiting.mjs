// How long a call waits, and what it says when that was not enough.
import { createLock, LockError } from "syncguard";

const lock = await createLock();
const key = "print";
const job = (name) => async () => console.log("printing", name);

// They stand in line: each gets its turn as soon as the one before it is done.
await Promise.all(["a", "b", "c"].map((name) => lock(job(name), { key, acquisition: { timeoutMs: 10_000 } })));

try {
  await lock(
    () => lock(job("d"), { key, acquisition: { timeoutMs: 200 } }), // not reentrant: it waits for itself
    { key },
  );
} catch (error) {
  if (!(error instanceof LockError && error.code === "AcquisitionTimeout")) throw error;
  console.log("still busy after 200 ms");
}
await lock.close();
