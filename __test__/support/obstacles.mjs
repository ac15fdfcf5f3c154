// What may stand where a file of ours belongs, and must be neither followed nor touched.
import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Fills a directory: `file` holds "precious"; the names of what is no file are answered. */
export function placeObstacles(directory) {
  const at = (name) => join(directory, name)
  writeFileSync(at('file'), 'precious')
  mkdirSync(at('directory'))
  symlinkSync(at('file'), at('symlink'))
  symlinkSync(at('absent'), at('dangling'))
  symlinkSync(at('directory'), at('symlink to a directory'))
  execFileSync('mkfifo', [at('pipe')])
  return ['directory', 'symlink', 'dangling', 'symlink to a directory', 'pipe']
}
