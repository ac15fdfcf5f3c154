// At most one instance of an application.
import { tmpdir } from "node:os";
import { guard } from "syncguard/pid";

try {
  const instance = await guard(tmpdir(), "my-daemon"); // until cleanup(), or the end of this process
  console.log("the only instance:", instance.state);
  await instance.cleanup();
} catch (error) {
  if (error.context?.pid === undefined) throw error;
  console.error("already running as process", error.context.pid);
}
