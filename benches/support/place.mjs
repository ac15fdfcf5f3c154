// A directory of the bench's own, taken away at the end.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export function temporaryDirectory() {
  const path = mkdtempSync(join(tmpdir(), 'syncguard-bench-'))
  process.once('exit', () => rmSync(path, { recursive: true, force: true }))
  return path
}
