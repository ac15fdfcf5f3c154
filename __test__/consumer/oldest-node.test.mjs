// Node.js 20.0, the oldest that the package says it runs on: it has no Symbol.asyncDispose.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { temporaryDirectory } from '../support/server-process.mjs'
import { root } from './project.mjs'
import { installRuntimes, oldestNode } from './runtimes.mjs'

test('handles, lease files, guards and backends can be disposed of in Node.js 20.0', { skip: oldestNode ? false : 'its binary is that of Linux on x64 with glibc' }, () => {
  installRuntimes()
  const directory = temporaryDirectory('oldest')
  const source = `
    const had = typeof Symbol.asyncDispose
    const { createBackend, lock } = require('syncguard')
    const { FileLock } = require('syncguard/file')
    const { guard } = require('syncguard/pid')
    const { decorateAcquireResult } = require('syncguard/common')
    async function main() {
      const backend = await createBackend(${JSON.stringify(`file:${directory}/locks`)})
      const held = await backend.acquire({ key: 'k', ttlMs: 10000 })
      const things = { held, refused: await backend.acquire({ key: 'k', ttlMs: 10000 }), file: await new FileLock(${JSON.stringify(`${directory}/lease`)}).acquire(),
        claim: await guard(${JSON.stringify(directory)}, 'name'), backend, decorated: decorateAcquireResult(backend, { ok: false, reason: 'locked' }, 'k') }
      const names = Object.keys(things).filter((name) => typeof things[name][Symbol.asyncDispose] !== 'function' || 'undefined' in things[name])
      for (const name of Object.keys(things)) if (name !== 'backend') await things[name][Symbol.asyncDispose]()
      const free = !(await backend.isLocked({ key: 'k' })) && !things.file.held
      await backend[Symbol.asyncDispose]()
      return { version: process.versions.node, had, without: names, free, said: String(Symbol.keyFor(Symbol.asyncDispose)) }
    }
    main().then((answer) => console.log(JSON.stringify(answer)))`
  const printed = execFileSync(oldestNode, ['-e', source], { cwd: root, encoding: 'utf8', timeout: 30_000 })
  rmSync(directory, { recursive: true, force: true })
  assert.deepEqual(JSON.parse(printed), { version: '20.0.0', had: 'undefined', without: [], free: true, said: 'nodejs.asyncDispose' })
})
