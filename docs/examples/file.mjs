// Locks in a directory of your own: no server.
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLock } from "syncguard/file";

const lock = createLock(join(tmpdir(), "my-app-locks")); // made with mode 0700 where it is missing
await lock(async () => console.log("inside"), { key: "import" });
await lock.close();
