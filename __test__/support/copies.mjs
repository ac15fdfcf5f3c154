// More copies of the package in one thread, as jest's module registry and server bundles make them.
import { readFileSync } from 'node:fs'
import Module, { createRequire } from 'node:module'
import { dirname, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import vm from 'node:vm'

const require = createRequire(import.meta.url)
const root = fileURLToPath(new URL('../..', import.meta.url))
const dist = `${root}dist${sep}`

/**
 * The entries (`file`, `common`, …) of a copy of its own. The addon is shared, as it is by everybody who requires it;
 * with `native` it is asked for anew, too.
 */
export function freshCopy(entries, { native = false } = {}) {
  const files = Object.keys(require.cache).filter((file) => file.startsWith(native ? root : dist) && !file.includes('node_modules'))
  for (const file of Object.keys(require.cache)) {
    // Node's own list of who required whom would keep every copy.
    const { children } = require.cache[file]
    require.cache[file].children = children.filter(({ filename }) => !files.includes(filename))
  }
  for (const file of files) delete require.cache[file]
  const parent = new Module(`${root}copy.cjs`)
  parent.filename = parent.id
  parent.paths = Module._nodeModulePaths(root)
  const copy = Object.fromEntries(entries.map((entry) => [entry, parent.require(`${dist}${entry}.js`)]))
  parent.children.length = 0
  return copy
}

/** The same in a context of `vm`, as jest runs each test file: another `Error`, `Array` and `Symbol` than ours. */
export function copyInContext(entries, globals = {}) {
  const context = vm.createContext({
    ...{ process, console, Buffer, URL, AbortController, AbortSignal, performance, setTimeout, clearTimeout },
    ...globals
  })
  const modules = new Map()
  const load = (file) => {
    if (file.endsWith('native.cjs')) return require(file)
    if (file.endsWith('.json')) return JSON.parse(readFileSync(file, 'utf8'))
    const known = modules.get(file)
    if (known) return known.exports
    const module = { exports: {} }
    modules.set(file, module)
    const from = dirname(file)
    const requireThere = (name) => (name.startsWith('.') ? load(resolve(from, name)) : require(name))
    const source = `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'utf8')}\n})`
    vm.runInContext(source, context, { filename: file })(module.exports, requireThere, module, file, from)
    return module.exports
  }
  return { ...Object.fromEntries(entries.map((entry) => [entry, load(`${dist}${entry}.js`)])), context }
}
