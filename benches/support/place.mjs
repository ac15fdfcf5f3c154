// A directory of the bench's own, taken away at the end.
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export function temporaryDirectory() {
  const path = mkdtempSync(join(tmpdir(), 'syncguard-bench-'))
  process.once('exit', () => rmSync(path, { recursive: true, force: true }))
  return path
}

const KINDS = new Map([
  [0xef53, 'ext4'],
  [0x01021994, 'tmpfs'],
  [0x9123683e, 'btrfs'],
  [0x58465342, 'xfs'],
  [0x794c7630, 'overlayfs']
])

/** The filesystem that a directory is on, as figures depend on it. */
export function filesystem(dir) {
  const { type } = statfsSync(dir)
  return KINDS.get(type) ?? `a filesystem of type 0x${type.toString(16)}`
}
