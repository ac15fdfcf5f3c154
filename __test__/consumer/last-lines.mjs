/** The last line that each one prints, so that an example that does nothing is noticed. */
export const LAST_LINE = {
  'commonjs.cjs': /^inside$/,
  'fencing.mjs': /^refused: \d{15} is older than \d{15}$/,
  'file-lock.mjs': /^held: true$/,
  'file.mjs': /^inside$/,
  'firestore.mjs': /^inside, with fence \d{15}$/,
  'free-by-hand.mjs': /^nobody held it$/,
  'guard.mjs': /^the only instance: OK$/,
  'handle.mjs': /^valid for \d+ ms$/,
  'handle.mts': /^held for another \d+ ms$/,
  'ioredis.mjs': /^inside$/,
  'keeping.mjs': /^kept through 4 pages$/,
  'memory.mjs': /^ok$/,
  'postgres.mjs': /^inside, with fence \d{15}$/,
  'quickstart.mjs': /^inside, with fence \d{15}$/,
  'redis.mjs': /^charged 24\.9$/,
  'telemetry.mjs': /^release ok/,
  'waiting.mjs': /^still busy after 200 ms$/,
  'who-holds.mjs': /^lock [0-9a-f]{24}, fence \d{15}, for another \d+\.\d s$/
}
