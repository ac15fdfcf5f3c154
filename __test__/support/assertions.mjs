// Assertions about what every LockError and every grant has to be.
import assert from 'node:assert/strict'
import { LockError } from 'syncguard'

/** Waits for `work` (a promise or a function) to reject with a LockError of that code, and answers the error. */
export async function rejectsWith(work, code, what = code) {
  let error
  try {
    await (typeof work === 'function' ? work() : work)
  } catch (thrown) {
    error = thrown
  }
  assert.ok(error !== undefined, `${what}: nothing was thrown`)
  return isLockError(error, code, what)
}

/** For what throws at once. */
export function throwsWith(work, code, what = code) {
  let error
  try {
    work()
  } catch (thrown) {
    error = thrown
  }
  assert.ok(error !== undefined, `${what}: nothing was thrown`)
  return isLockError(error, code, what)
}

export function isLockError(error, code, what = code) {
  assert.ok(error instanceof LockError, `${what}: ${error?.stack ?? String(error)}`)
  assert.equal(error.code, code, `${what}: ${error.message}`)
  assert.equal(error.name, 'LockError')
  assert.ok(error.message.length > 0 && !/\n/.test(error.message), `${what}: one sentence, not ${JSON.stringify(error.message)}`)
  if (error.context?.outcome !== undefined) assert.match(error.context.outcome, /^(not-applied|unknown)$/)
  return error
}

/** The message names the argument, and says what was given and what is allowed. */
export function saysWhatIsWrong(error, argument) {
  assert.ok(error.message.toLowerCase().includes(argument.toLowerCase()), `"${error.message}" does not name ${argument}`)
}

export function isGrant(result) {
  assert.equal(result.ok, true)
  assert.match(result.lockId, /^[A-Za-z0-9_-]{22}$/)
  assert.match(result.fence, /^\d{15}$/)
  assert.ok(Number.isSafeInteger(result.expiresAtMs), `expiresAtMs ${result.expiresAtMs}`)
  return result
}

export const isRefusal = (result) => {
  assert.equal(result.ok, false)
  assert.equal(result.reason, 'locked')
  return result
}

/** Neither a lock id nor a key may be in what a log would print. */
export function tellsNoSecret(printed, ...secrets) {
  for (const secret of secrets) assert.ok(!String(printed).includes(secret), `${secret} is told: ${printed}`)
}
