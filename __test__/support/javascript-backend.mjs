// A backend that is written in JavaScript, as a user of "syncguard/common" would write one: leases in a Map.
// `before` runs ahead of each operation, where tests make it slow or let it fail.
import { attachRawData, decorateAcquireResult, formatFence, generateLockId, LockError, sanitizeLockInfo } from 'syncguard/common'

const capabilities = { backend: 'memory', supportsFencing: true, timeAuthority: 'client' }

export function createMemoryBackend({ before = async () => {}, decorated = true, onReleaseError, disposeTimeoutMs } = {}) {
  const leases = new Map()
  const calls = { acquire: [], release: [], extend: [] }
  let fence = 0

  const live = (key) => {
    const lease = leases.get(key)
    return lease !== undefined && lease.expiresAtMs > Date.now() ? lease : undefined
  }
  const byId = (lockId) => [...leases.values()].find((lease) => lease.lockId === lockId && live(lease.key) === lease)

  const backend = {
    capabilities,
    calls,
    leases,
    async acquire(opts) {
      calls.acquire.push(opts)
      await before('acquire', opts, calls.acquire.length)
      const { key, ttlMs } = opts
      if (live(key)) return decorateAcquireResult(backend, { ok: false, reason: 'locked' }, key)
      const now = Date.now()
      const lease = { key, lockId: generateLockId(), acquiredAtMs: now, expiresAtMs: now + ttlMs, fence: formatFence(++fence) }
      leases.set(key, lease)
      const result = { ok: true, lockId: lease.lockId, expiresAtMs: lease.expiresAtMs, fence: lease.fence }
      return decorated ? decorateAcquireResult(backend, result, key, onReleaseError, disposeTimeoutMs) : result
    },
    async release(opts) {
      calls.release.push(opts)
      await before('release', opts, calls.release.length)
      const lease = byId(opts.lockId)
      if (!lease) return { ok: false }
      leases.delete(lease.key)
      return { ok: true }
    },
    async extend(opts) {
      calls.extend.push(opts)
      await before('extend', opts, calls.extend.length)
      const lease = byId(opts.lockId)
      if (!lease) return { ok: false }
      lease.expiresAtMs = Date.now() + opts.ttlMs
      return { ok: true, expiresAtMs: lease.expiresAtMs }
    },
    async isLocked({ key }) {
      return live(key) !== undefined
    },
    async lookup({ key, lockId }) {
      const lease = key === undefined ? byId(lockId) : live(key)
      return lease ? attachRawData(sanitizeLockInfo(lease, capabilities), lease) : null
    }
  }
  return backend
}

/** A promise that a test settles by hand. */
export function gate() {
  let open
  const opened = new Promise((resolve) => (open = resolve))
  return { opened, open }
}

export const unavailable = () => new LockError('ServiceUnavailable', 'the memory is full')
