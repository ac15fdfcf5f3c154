// Section 3: InvalidArgument before any I/O, in one sentence that names the argument.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBackend, createLock, generateLockId, lock } from 'syncguard'
import { rejectsWith, saysWhatIsWrong, tellsNoSecret, throwsWith } from '../support/assertions.mjs'
import { uniqueKey } from '../support/keys.mjs'
import { freePort } from '../support/server-process.mjs'
import { eachBackend } from './backends.mjs'

const badKeys = {
  'no key': undefined,
  'null': null,
  'a number': 5,
  'an object': { toString: () => 'key' },
  'a String object': Object('key'),
  'the empty text': '',
  '513 bytes': 'k'.repeat(513),
  '513 bytes of two-byte letters': `${'é'.repeat(256)}k`,
  'more than 512 bytes only after NFC': '\u0958'.repeat(86), // 3 bytes each, 6 as NFC
  'U+0000': 'a\u0000b',
  'a lone high surrogate': 'a\ud800b',
  'a lone low surrogate': 'a\udc00'
}

const badTimes = {
  'nothing': undefined,
  'null': null,
  'NaN': NaN,
  'Infinity': Infinity,
  '-Infinity': -Infinity,
  'a fraction': 1.5,
  'zero': 0,
  'minus one': -1,
  'over 100 years': 3_153_600_000_001,
  'a text': '1000',
  'a BigInt': 1000n,
  'a Date': new Date(1000)
}

const badLockIds = {
  'nothing': undefined,
  'a number': 22,
  'the empty text': '',
  '21 characters': 'A'.repeat(21),
  '23 characters': 'A'.repeat(23),
  'a character outside base64url': `${'A'.repeat(21)}+`,
  'a line end': `${'A'.repeat(22)}\n`
}

const badOptions = {
  'an unknown option': [{ nonsense: 1 }, 'nonsense'],
  'disposeTimeoutMs of a fraction': [{ disposeTimeoutMs: 1.5 }, 'disposeTimeoutMs'],
  'disposeTimeoutMs of zero': [{ disposeTimeoutMs: 0 }, 'disposeTimeoutMs'],
  'operationTimeoutMs of a text': [{ operationTimeoutMs: '5000' }, 'operationTimeoutMs'],
  'operationTimeoutMs of NaN': [{ operationTimeoutMs: NaN }, 'operationTimeoutMs'],
  'connectTimeoutMs below 1': [{ connectTimeoutMs: -1 }, 'connectTimeoutMs'],
  'fenceRetentionMs below a day': [{ fenceRetentionMs: 86_399_999 }, 'fenceRetentionMs'],
  'fenceRetentionMs over 100 years': [{ fenceRetentionMs: 3_153_600_000_001 }, 'fenceRetentionMs'],
  'fenceRetentionMs of a fraction': [{ fenceRetentionMs: 86_400_000.5 }, 'fenceRetentionMs'],
  'fenceRetentionMs of infinity': [{ fenceRetentionMs: Infinity }, 'fenceRetentionMs'],
  'fenceRetentionMs of a text': [{ fenceRetentionMs: '86400000' }, 'fenceRetentionMs'],
  'cleanupInIsLocked of a text': [{ cleanupInIsLocked: 'yes' }, 'cleanupInIsLocked'],
  'onReleaseError of a text': [{ onReleaseError: 'log' }, 'onReleaseError']
}

const ofBackend = {
  redis: {
    targets: ['redis://[', 'redis://host:port', 'redis://h:99999', 'redis://localhost/notadb', 'http://localhost', 'localhost:6379', ''],
    options: {
      'a prefix that contains fence:': [{ keyPrefix: 'my:fence:x' }, 'keyPrefix'],
      'a prefix that ends in fence': [{ keyPrefix: 'myfence' }, 'keyPrefix'],
      'a prefix that is no text': [{ keyPrefix: 5 }, 'keyPrefix']
    }
  },
  postgres: {
    targets: ['postgres://[', 'postgres://host:port/x', 'mysql://localhost/x', 'nothing at all', ''],
    options: {
      'a table name with a quote': [{ tableName: 'x"; DROP TABLE y; --' }, 'tableName'],
      'a table name that begins with a digit': [{ tableName: '1locks' }, 'tableName'],
      'a table name of 64 characters': [{ tableName: 'a'.repeat(64) }, 'tableName'],
      'an empty table name': [{ tableName: '' }, 'tableName'],
      'a fence table with a dot': [{ fenceTableName: 'a.b' }, 'fenceTableName'],
      'a schema with a blank': [{ schema: 'my schema' }, 'schema'],
      'equal tables': [{ tableName: 'same', fenceTableName: 'same' }, 'fenceTableName'],
      'a pool of no connections': [{ poolSize: 0 }, 'poolSize']
    }
  },
  firestore: {
    targets: ['firestore://', 'firestore://project/a/b', 'firestore://project?x=1', 'firestore://me:secret@project', 'http://localhost', 'project', ''],
    options: {
      'an empty collection': [{ collection: '' }, 'collection'],
      'a path that ends at a document': [{ collection: 'apps/mine' }, 'collection'],
      'a reserved name': [{ fenceCollection: '__fences__' }, 'fenceCollection'],
      'a collection that is no text': [{ collection: 5 }, 'collection'],
      'equal collections': [{ collection: 'same', fenceCollection: 'same' }, 'fenceCollection']
    }
  },
  file: {
    targets: ['', 'file:'],
    options: { 'an unknown ownerDeath': [{ ownerDeath: 'forget' }, 'ownerDeath'] }
  }
}

eachBackend((fixture) => {
  const { targets, options } = ofBackend[fixture.name]

  /** A backend that no I/O can reach: whatever connects fails with another code. */
  async function unreachable(extra) {
    if (!fixture.hasServer) return fixture.open(extra)
    return fixture.open(extra, fixture.targetAt(await freePort()))
  }

  test('keys', async () => {
    const backend = await unreachable()
    for (const [what, key] of Object.entries(badKeys)) {
      for (const [name, operation] of [
        ['acquire', () => backend.acquire({ key, ttlMs: 1000 })],
        ['isLocked', () => backend.isLocked({ key })],
        ['lock', () => lock(backend, () => assert.fail('fn ran'), { key, acquisition: { timeoutMs: 500 } })]
      ]) {
        saysWhatIsWrong(await rejectsWith(operation, 'InvalidArgument', `${name} with ${what}`), 'key')
      }
      if (key !== undefined) saysWhatIsWrong(await rejectsWith(backend.lookup({ key }), 'InvalidArgument', `lookup with ${what}`), 'key')
    }
    await rejectsWith(() => backend.lookup({}), 'InvalidArgument', 'lookup of nothing')
  })

  test('a key of exactly 512 bytes after NFC is not too long', async () => {
    const backend = fixture.open()
    for (const key of ['k'.repeat(512), 'é'.repeat(256), 'e\u0301'.repeat(256)]) {
      const held = await backend.acquire({ key, ttlMs: 1000 })
      assert.equal(held.ok, true)
      await held.release()
    }
  })

  test('times', async () => {
    const backend = await unreachable()
    for (const [what, ttlMs] of Object.entries(badTimes)) {
      saysWhatIsWrong(await rejectsWith(backend.acquire({ key: uniqueKey(), ttlMs }), 'InvalidArgument', `acquire with ${what}`), 'ttlMs')
      const extend = backend.extend({ lockId: generateLockId(), ttlMs })
      saysWhatIsWrong(await rejectsWith(extend, 'InvalidArgument', `extend with ${what}`), 'ttlMs')
      if (ttlMs === undefined) continue // lock() has a default
      saysWhatIsWrong(await rejectsWith(() => lock(backend, () => {}, { key: 'k', ttlMs }), 'InvalidArgument', `lock with ${what}`), 'ttlMs')
    }
  })

  test('times of a handle', async () => {
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 30_000 })
    for (const [what, ttlMs] of Object.entries(badTimes)) {
      saysWhatIsWrong(await rejectsWith(() => held.extend(ttlMs), 'InvalidArgument', what), 'ttlMs')
    }
    assert.ok(held.isValid(), 'a bad argument loses no lease')
    assert.deepEqual(await held.release(), { ok: true })
  })

  test('lock ids', async () => {
    const backend = await unreachable()
    for (const [what, lockId] of Object.entries(badLockIds)) {
      saysWhatIsWrong(await rejectsWith(backend.release({ lockId }), 'InvalidArgument', `release with ${what}`), 'lockId')
      saysWhatIsWrong(await rejectsWith(backend.extend({ lockId, ttlMs: 1000 }), 'InvalidArgument', `extend with ${what}`), 'lockId')
      if (lockId !== undefined) saysWhatIsWrong(await rejectsWith(backend.lookup({ lockId }), 'InvalidArgument', `lookup with ${what}`), 'lockId')
    }
  })

  test('acquisition options', async () => {
    const backend = await unreachable()
    for (const [name, values] of Object.entries({
      timeoutMs: [NaN, 1.5, 0, -1, Infinity, '5000'],
      retryDelayMs: [NaN, 1.5, -1, Infinity, '100'],
      maxRetries: [NaN, 1.5, -1, '3'],
      backoff: ['linear', 5],
      jitter: ['some', true],
      wait: ['always', 1]
    })) {
      for (const value of values) {
        const error = await rejectsWith(
          () => lock(backend, () => assert.fail('fn ran'), { key: 'k', acquisition: { [name]: value } }),
          'InvalidArgument',
          `${name}: ${String(value)}`
        )
        saysWhatIsWrong(error, name)
      }
    }
  })

  test('autoExtend and callbacks', async () => {
    const backend = await unreachable()
    for (const autoExtend of [{ intervalMs: 0 }, { maxHoldMs: NaN }, { stallMs: 1.5 }, { intervalMs: '5' }, 'yes', 5]) {
      await rejectsWith(() => backend.acquire({ key: 'k', ttlMs: 1000, autoExtend }), 'InvalidArgument', `autoExtend ${JSON.stringify(autoExtend)}`)
    }
    saysWhatIsWrong(await rejectsWith(() => backend.acquire({ key: 'k', ttlMs: 1000, onLeaseLost: 'me' }), 'InvalidArgument'), 'onLeaseLost')
    saysWhatIsWrong(await rejectsWith(() => backend.acquire({ key: 'k', ttlMs: 1000, signal: {} }), 'InvalidArgument'), 'signal')
    for (const fn of [undefined, null, 'fn', {}]) await rejectsWith(() => lock(backend, fn, { key: 'k' }), 'InvalidArgument', `fn ${fn}`)
  })

  test('no arguments at all', async () => {
    const backend = await unreachable()
    for (const name of ['acquire', 'release', 'extend', 'isLocked', 'lookup']) {
      for (const opts of [undefined, null, 5, 'key']) await rejectsWith(() => backend[name](opts), 'InvalidArgument', `${name}(${opts})`)
    }
    await rejectsWith(() => lock(backend, () => {}, undefined), 'InvalidArgument')
    await rejectsWith(() => lock(undefined, () => {}, { key: 'k' }), 'InvalidArgument')
  })

  test('options of a create call', async () => {
    for (const [what, [given, name]] of Object.entries({ ...badOptions, ...options })) {
      const create = () => fixture.create(fixture.target, { ...fixture.options, ...given })
      saysWhatIsWrong(throwsWith(create, 'InvalidArgument', what), name)
      saysWhatIsWrong(
        throwsWith(() => fixture.module.createLock(fixture.target, { ...fixture.options, ...given }), 'InvalidArgument', what),
        name
      )
    }
    throwsWith(() => fixture.create(fixture.target, 'fast'), 'InvalidArgument', 'options of a text')
  })

  test('options are read as own properties only', async () => {
    const inherited = Object.create({ nonsense: 1, disposeTimeoutMs: 'x' })
    const backend = fixture.keep(fixture.create(fixture.target, Object.assign(inherited, fixture.options)))
    const key = uniqueKey()
    const call = Object.assign(Object.create({ ttlMs: 5 }), { key })
    await rejectsWith(() => backend.acquire(call), 'InvalidArgument', 'an inherited ttlMs')
    Object.prototype.ttlMs = 77
    try {
      await rejectsWith(() => backend.acquire({ key }), 'InvalidArgument', 'a ttlMs that sits on Object.prototype')
    } finally {
      delete Object.prototype.ttlMs
    }
  })

  test('unknown fields of a call are ignored', async () => {
    const held = await fixture.open().acquire({ key: uniqueKey(), ttlMs: 1000, requestId: 7, spread: true })
    assert.equal(held.ok, true)
  })

  test('targets', async () => {
    for (const target of [...targets, undefined, null, 5, true, Symbol('x'), []]) {
      throwsWith(() => fixture.create(target, fixture.options), 'InvalidArgument', `target ${String(target)}`)
    }
  })

  test('an unknown fact of a target is named', async () => {
    const error = throwsWith(() => fixture.create({ nonsense: true }, fixture.options), 'InvalidArgument')
    saysWhatIsWrong(error, 'nonsense')
  })
})

test('the root entry refuses targets that fit no store', async () => {
  for (const target of ['', 'nothing', 'ftp://x', null, 5, true, [], { nonsense: 1 }, () => {}]) {
    await rejectsWith(() => createBackend(target), 'InvalidArgument', `createBackend(${String(target)})`)
    await rejectsWith(() => createLock(target), 'InvalidArgument', `createLock(${String(target)})`)
  }
})

test('a URL that makes no sense is refused without telling its password', async () => {
  for (const url of ['redis://user:hunter2@[', 'redis://user:hunter2@host:port', 'gopher://user:hunter2@host', 'postgres://user:hunter2@host:port/db']) {
    const error = await rejectsWith(() => createBackend(url), 'InvalidArgument', url)
    tellsNoSecret(`${error.stack} ${JSON.stringify(error)} ${error.cause}`, 'hunter2')
  }
})
