// Certificates for TLS tests, made anew by openssl: an authority, a server's and a client's, and bad ones.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryDirectory } from './server-process.mjs'

/**
 * Paths: `ca`, `server` (for localhost and 127.0.0.1), `wrongHost`, `client`, each with `cert` and `key`.
 * `read(path)` answers the text.
 */
export function makeCertificates() {
  const dir = temporaryDirectory('tls')
  const at = (name) => join(dir, name)
  const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const key = (name) => openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', at(`${name}.key`))

  key('ca')
  openssl('req', '-x509', '-new', '-key', at('ca.key'), '-days', '2', '-subj', '/CN=syncguard test authority', '-out', at('ca.crt'))
  const issue = (name, extensions) => {
    key(name)
    openssl('req', '-new', '-key', at(`${name}.key`), '-subj', `/CN=${name}`, '-out', at(`${name}.csr`))
    writeFileSync(at(`${name}.ext`), extensions)
    openssl(
      ...['x509', '-req', '-in', at(`${name}.csr`), '-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial'],
      ...['-days', '2', '-extfile', at(`${name}.ext`), '-out', at(`${name}.crt`)]
    )
    return { cert: at(`${name}.crt`), key: at(`${name}.key`) }
  }
  return {
    ca: { cert: at('ca.crt'), key: at('ca.key') },
    server: issue('server', 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n'),
    wrongHost: issue('wrong-host', 'subjectAltName=DNS:elsewhere.example\nextendedKeyUsage=serverAuth\n'),
    client: issue('client', 'extendedKeyUsage=clientAuth\n'),
    read: (path) => readFileSync(path, 'utf8')
  }
}
