// What is adopted of firebase-admin's Firestore, down to the facts that Rust gets: the real package, never connected.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { createRequire } from 'node:module'
import { after, test } from 'node:test'
import { Firestore } from '@google-cloud/firestore'
import { applicationDefault, cert, deleteApp, initializeApp, refreshToken } from 'firebase-admin/app'
import { getFirestore, initializeFirestore } from 'firebase-admin/firestore'
import { createFirestoreBackend } from 'syncguard/firestore'
import { tellsNoSecret, throwsWith } from '../support/assertions.mjs'

const { firestore } = createRequire(import.meta.url)('../../dist/targets/firestore.js')

const apps = []
const app = (options) => {
  const made = initializeApp(options, `app-${apps.length}`)
  apps.push(made)
  return made
}
/** What is adopted of a client, by name. */
const facts = (client) => Object.fromEntries(firestore.adopt(client).target)

after(() => Promise.all(apps.map((each) => deleteApp(each))))

test("firebase-admin's Firestore is another copy of the class than ours", () => {
  assert.ok(!(getFirestore(app({ projectId: 'p' })) instanceof Firestore))
})

test('the credentials of the application are adopted', () => {
  const key = {
    project_id: 'of-account',
    client_email: 'me@of-account.iam.gserviceaccount.com',
    private_key: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' })
  }
  const { private_key: privateKey, client_email: email } = key
  const pair = { 'credentials.client_email': email, 'credentials.private_key': privateKey }
  const adopted = (options, database) => {
    const client = database ? getFirestore(app(options), database) : getFirestore(app(options))
    const { databaseId = '(default)', ...others } = facts(client)
    return { databaseId, ...others }
  }
  assert.deepEqual(adopted({ credential: cert(key) }), { projectId: 'of-account', databaseId: '(default)', ...pair })
  assert.deepEqual(adopted({ credential: cert(key), projectId: 'p' }, 'second'), { projectId: 'p', databaseId: 'second', ...pair })
  // As syncguard itself finds them: a file, or the metadata server.
  assert.deepEqual(adopted({ credential: applicationDefault(), projectId: 'p' }), { projectId: 'p', databaseId: '(default)' })
  const rest = initializeFirestore(app({ projectId: 'p' }), { preferRest: true })
  assert.equal(facts(rest).projectId, 'p', 'which way the client itself takes is its own affair')
})

test('what can not be adopted is named, and what firebase-admin refuses never comes so far', () => {
  const credential = refreshToken({ type: 'authorized_user', client_id: 'i', client_secret: 'canary', refresh_token: 'canary' })
  assert.throws(() => getFirestore(app({ credential, projectId: 'p' })), /credential/)
  for (const [name, settings] of Object.entries({
    apiKey: { apiKey: 'canary' },
    sslCreds: { sslCreds: {} },
    universeDomain: { universeDomain: 'canary.example' },
    'customHeaders.Authorization': { customHeaders: { Authorization: 'canary' } }
  })) {
    const client = getFirestore(app({ projectId: 'p' }))
    client.settings(settings)
    const error = throwsWith(() => createFirestoreBackend(client), 'InvalidArgument')
    assert.ok(error.message.includes(name), error.message)
    tellsNoSecret(error.message, 'canary')
  }
})

test('the application itself is no target', () => {
  throwsWith(() => createFirestoreBackend(app({ projectId: 'p' })), 'InvalidArgument')
})
