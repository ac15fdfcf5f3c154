// npm run docs:api writes the API reference to docs/api. What an entry exports without saying what it does is an error.
import { readFileSync } from 'node:fs'

const { exports } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'))
const entries = Object.values(exports).map((entry) => entry.import?.default.match(/([^/]+)\.mjs$/)?.[1]).filter(Boolean)

export default {
  name: 'syncguard',
  entryPoints: entries.map((entry) => `ts/${entry}.ts`),
  out: 'docs/api',
  readme: 'none',
  includeVersion: true,
  excludeInternal: true,
  githubPages: false,
  hideGenerator: true,
  disableSources: true,
  validation: { notExported: true, invalidLink: true, rewrittenLink: true, notDocumented: true },
  // Its own part of a signature, said in full where it is used.
  intentionallyNotExported: ['Operations'],
  requiredToBeDocumented: ['Class', 'Constructor', 'Function', 'Interface', 'TypeAlias', 'Variable', 'Method', 'Accessor'],
  treatWarningsAsErrors: true,
  treatValidationWarningsAsErrors: true
}
