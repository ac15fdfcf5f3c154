// Processes whose wall clock is wrong.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryDirectory } from './server-process.mjs'

const source = fileURLToPath(new URL('clock-shim.c', import.meta.url))
let library

/** The environment of a process whose wall clock is `seconds` ahead. Linux only; needs the C compiler that Rust needs as well. */
export function wrongClock(seconds) {
  if (library === undefined) {
    library = join(temporaryDirectory('clock'), 'clock-shim.so')
    execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source])
  }
  return { LD_PRELOAD: library, SYNCGUARD_TEST_CLOCK_SECONDS: String(seconds) }
}
