// The first lock.
import { createLock } from "syncguard";

const lock = await createLock(); // no target: lock files below your home, no server needed
await lock(
  async (handle) => {
    console.log("inside, with fence", handle.fence);
  },
  { key: "nightly-report" }, // one process at a time, for all processes of this user
);
await lock.close();
