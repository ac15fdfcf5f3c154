// The first lock, from CommonJS.
const { createLock, LockError } = require("syncguard");

async function main() {
  const lock = await createLock();
  try {
    await lock(async () => console.log("inside"), { key: "nightly-report" });
  } catch (error) {
    if (!(error instanceof LockError)) throw error;
    console.error("not done:", error.code, error.context?.outcome);
  }
  await lock.close();
}

main();
