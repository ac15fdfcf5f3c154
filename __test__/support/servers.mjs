// Real servers for the tests, each in a temporary directory and on a free port, all gone when the test's process ends.
export { FirestoreEmulator } from './firestore-emulator.mjs'
export { PostgresServer } from './postgres-server.mjs'
export { RedisServer } from './redis-server.mjs'
export { makeCertificates } from './certificates.mjs'
