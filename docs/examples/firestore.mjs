// A lock in Firestore.
import { createLock } from "syncguard/firestore";

const lock = createLock(`firestore://${process.env.GOOGLE_CLOUD_PROJECT ?? "my-project"}`);
await lock(async (handle) => console.log("inside, with fence", handle.fence), { key: "order:42" });
await lock.close();
