// npm run build:portable: the addon for Linux as it is released, linked by Zig against an old C library, so that it
// runs on systems as old as Node.js 20 does. `npm run build:portable -- aarch64-unknown-linux-musl` builds for another
// target, whose standard library `rustup target add` brings.
import { copyFileSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { findProgram } from '../__test__/support/needs.mjs'
import { exists, heading, main, root, run } from './run.mjs'

/** RHEL 8 and Debian 10. Node.js 20 asks for the same. */
const GLIBC = [2, 28]

const CPU = { x86_64: 'x64', aarch64: 'arm64' }

/** Zig and its Cargo command: those on the PATH, else those of PyPI, kept below `target`. */
function linker() {
  if (findProgram('cargo-zigbuild') && findProgram('zig')) return {}
  const tools = join(root, 'target', 'zig')
  const bin = join(tools, 'bin')
  if (!exists('target/zig/bin/cargo-zigbuild')) {
    heading('Zig, from PyPI')
    run('python3', ['-m', 'venv', tools])
    run(join(bin, 'pip'), ['install', '--quiet', '--require-hashes', '-r', join('scripts', 'portable-requirements.txt')])
  }
  // It finds the Python package `ziglang` beside itself.
  return { PATH: [bin, process.env.PATH, join(process.env.HOME ?? '', '.cargo', 'bin')].join(delimiter) }
}

/** The newest version of the C library that a binary asks for: the names stand in its table of strings. */
function glibcOf(file) {
  const names = readFileSync(file, 'latin1').matchAll(/\0GLIBC_(\d+)\.(\d+)(?=[.\0])/g)
  return [...names]
    .map(([, major, minor]) => [Number(major), Number(minor)])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .at(-1)
}

await main(async () => {
  const target = process.argv[2] ?? `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-unknown-linux-gnu`
  const [, cpu, libc] = /^(x86_64|aarch64)-unknown-linux-(gnu|musl)$/.exec(target) ?? []
  if (cpu === undefined) throw new Error(`${target} is none of the targets of Linux: {x86_64,aarch64}-unknown-linux-{gnu,musl}`)
  const cache = join(root, 'target', 'zig-cache')
  const env = { ...linker(), CARGO_ZIGBUILD_CACHE_DIR: cache, ZIG_GLOBAL_CACHE_DIR: cache, ZIG_LOCAL_CACHE_DIR: cache }
  heading(`the addon for ${target}${libc === 'gnu' ? `, glibc ${GLIBC.join('.')} and later` : ''}`)
  const zigTarget = libc === 'gnu' ? `${target}.${GLIBC.join('.')}` : target
  const out = join('target', 'portable')
  const cargo = ['zigbuild', '--release', '--locked', '-p', 'syncguard-node', '--target', zigTarget, '--target-dir', out]
  // A shared library for musl is loaded by a Node.js that has its own musl.
  const rustFlags = { [`CARGO_TARGET_${target.toUpperCase().replaceAll('-', '_')}_RUSTFLAGS`]: '-C target-feature=-crt-static' }
  run('cargo', cargo, { env: { ...env, ...(libc === 'musl' && rustFlags) } })

  const file = `syncguard.linux-${CPU[cpu]}-${libc}.node`
  copyFileSync(join(root, out, target, 'release', 'libsyncguard_node.so'), join(root, file))
  const needs = glibcOf(join(root, file))
  if (libc === 'gnu' && (needs === undefined || needs[0] !== GLIBC[0] || needs[1] > GLIBC[1])) {
    throw new Error(`${file} needs glibc ${needs?.join('.')}, which is newer than ${GLIBC.join('.')}`)
  }
  console.log(`${file}${libc === 'gnu' ? `: needs glibc ${needs.join('.')}` : ''}`)
})
