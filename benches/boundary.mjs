// The floor: an empty call into Rust and back, and what loading the addon costs.
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { statSync } from 'node:fs'
import { inTurns, latency, median, round, table, throughput } from './support/measure.mjs'

const require = createRequire(import.meta.url)
const { here } = require('../dist/environment.js')
const contenders = [
  { name: 'plain async function', cycle: async () => {} },
  { name: 'empty native call', cycle: () => here.emptyCall() }
]
const alone = await inTurns(contenders, 5, ({ cycle }) => latency(cycle, { count: 5000 }))
const busy = await inTurns(contenders, 5, ({ cycle }) => throughput(cycle, { inFlight: 100, ms: 400 }))
table(
  'An empty call, in µs',
  contenders.map(({ name }) => ({
    call: name,
    'one at a time': round(median(alone.get(name))),
    '100 in flight': round(1e6 / median(busy.get(name).map((r) => r.perSecond)))
  }))
)

const probe = (load) =>
  JSON.parse(
    execFileSync(process.execPath, [
      '-e',
      `const rss = () => process.memoryUsage().rss; ${load ? '' : 'const before = rss();'}
       const t = process.hrtime.bigint(); const before2 = rss();
       ${load ? `require(${JSON.stringify(require.resolve('syncguard/redis'))});` : ''}
       console.log(JSON.stringify({ ms: Number(process.hrtime.bigint() - t) / 1e6, rss: rss() }))`
    ])
  )
const loads = Array.from({ length: 9 }, () => ({ bare: probe(false), loaded: probe(true) }))
const binary = require('node:fs')
  .readdirSync(new URL('..', import.meta.url))
  .find((name) => name.endsWith('.node'))
table('Loading', [
  { what: 'require("syncguard/redis"), ms', value: round(median(loads.map(({ loaded }) => loaded.ms)), 1) },
  {
    what: 'RSS over bare Node, MB',
    value: round(median(loads.map(({ bare, loaded }) => (loaded.rss - bare.rss) / 1e6)), 1)
  },
  { what: `size of ${binary}, MB`, value: round(statSync(new URL(`../${binary}`, import.meta.url)).size / 1e6, 1) }
])
