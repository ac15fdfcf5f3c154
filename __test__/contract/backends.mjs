// The backends that the contract tests run over. A new one is one class here, in its own file, and one line in the table.
import { after, before, describe } from 'node:test'
import { skipWithout } from '../support/needs.mjs'
import { FileFixture } from './fixtures/file.mjs'
import { FirestoreFixture } from './fixtures/firestore.mjs'
import { PostgresFixture } from './fixtures/postgres.mjs'
import { RedisFixture } from './fixtures/redis.mjs'

export const fixtures = { redis: RedisFixture, postgres: PostgresFixture, firestore: FirestoreFixture, file: FileFixture }

/**
 * Runs `body(fixture)` once per backend, inside a `describe` of its name; the fixture's server runs while tests do.
 * `where(fixture)` leaves out backends to which a question does not apply (files have no connection to freeze).
 */
export function eachBackend(body, { where = () => true } = {}) {
  for (const [name, Fixture] of Object.entries(fixtures)) {
    const fixture = new Fixture()
    if (!where(fixture)) continue
    const skip = skipWithout(name)
    describe(name, { skip }, () => {
      if (skip) return
      // Waiting for a handle's signal keeps no process alive, and should not.
      const alive = setInterval(() => {}, 1 << 30)
      before(() => fixture.start())
      after(() => (clearInterval(alive), fixture.stop()))
      body(fixture)
    })
  }
}

/** Those with a server and a connection. */
export const overNetwork = (fixture) => fixture.hasServer
