// No backend may be left out: neither of the package's entries nor of what a backend has to bring.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fixtures } from './backends.mjs'

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

test('every entry that makes a backend runs the contract', async () => {
  for (const entry of Object.keys(manifest.exports).filter((name) => name.startsWith('./') && name !== './package.json')) {
    const name = entry.slice(2)
    const exported = await import(`syncguard/${name}`)
    const makesBackend = Object.keys(exported).some((each) => /^create\w+Backend$/.test(each))
    assert.equal(name in fixtures, makesBackend, `${entry} ${makesBackend ? 'makes a backend that no fixture is for' : 'makes no backend'}`)
  }
})

for (const [name, Fixture] of Object.entries(fixtures)) {
  test(`the fixture of ${name} answers what the tests ask`, () => {
    const fixture = new Fixture()
    assert.equal(fixture.name, name)
    assert.equal(typeof fixture.create, 'function')
    assert.equal(typeof fixture.module.createLock, 'function')
    assert.equal(fixture.capabilities.backend, name)
    const ofServers = ['requestsDuring', 'targetAt', 'records', 'plant', 'plantUnreadable', 'snapshot', 'setFence', 'remove']
    for (const method of ['open', 'openLock', 'freeAfter', ...(fixture.hasServer ? ofServers : [])]) {
      assert.equal(typeof fixture[method], 'function', method)
    }
  })
}
