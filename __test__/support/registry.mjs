// A package registry of our own, with the packages that were just packed: what a user's package manager talks to.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

export class Registry {
  #server

  /** Serves the tarballs of a directory, and `others`: manifests of packages that are only named. */
  static async start(directory, others = []) {
    const tarballs = readdirSync(directory)
      .filter((name) => name.endsWith('.tgz'))
      .map((name) => readFileSync(join(directory, name)))
    const registry = new Registry()
    const server = createServer((request, response) => registry.#answer(request, response)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    server.unref()
    registry.#server = server
    registry.url = `http://127.0.0.1:${server.address().port}/`
    registry.packages = new Map(others.map((manifest) => [manifest.name, { manifest, tarball: Buffer.from(`no ${manifest.name} here`) }]))
    for (const tarball of tarballs) {
      const manifest = manifestOf(tarball)
      registry.packages.set(manifest.name, { manifest, tarball })
    }
    return registry
  }

  #answer({ url, method }, response) {
    const [, name, isTarball] = /^\/([^/?]+)(\/-\/.*)?/.exec(decodeURIComponent(url)) ?? []
    const found = this.packages.get(name)
    if (method !== 'GET' || found === undefined) return response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}')
    if (isTarball) return response.end(found.tarball)
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(this.#about(found)))
  }

  #about({ manifest, tarball }) {
    const { name, version } = manifest
    const dist = {
      tarball: `${this.url}${name}/-/${name}-${version}.tgz`,
      integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
      shasum: createHash('sha1').update(tarball).digest('hex')
    }
    const long = '2020-01-01T00:00:00.000Z' // Some package managers take nothing that is only hours old.
    return { name, 'dist-tags': { latest: version }, time: { created: long, modified: long, [version]: long }, versions: { [version]: { ...manifest, dist } } }
  }

  stop() {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

/** package/package.json out of a tarball. */
function manifestOf(tarball) {
  const tar = gunzipSync(tarball)
  for (let at = 0; at < tar.length; ) {
    const text = (from, length) => tar.toString('latin1', at + from, at + from + length).split('\0')[0]
    const size = Number.parseInt(text(124, 12), 8) || 0
    if (text(0, 100) === 'package/package.json') return JSON.parse(tar.toString('utf8', at + 512, at + 512 + size))
    at += 512 + Math.ceil(size / 512) * 512
  }
  throw new Error('a tarball without package.json')
}
