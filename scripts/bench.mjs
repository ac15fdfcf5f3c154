// npm run bench: every benchmark one after another, on the addon as it is shipped. `npm run bench -- redis` runs those whose name begins so.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { buildRelease, buildTypeScript, installPackages } from './prepare.mjs'
import { heading, main, root, run } from './run.mjs'

await main(async () => {
  const asked = process.argv.slice(2)
  const benches = readdirSync(join(root, 'benches')).filter((name) => name.endsWith('.mjs'))
  const wanted = benches.filter((name) => asked.length === 0 || asked.some((start) => name.startsWith(start)))
  if (wanted.length === 0) throw new Error(`no benchmark is named ${asked.join(', ')}; there are ${benches.join(', ')}`)
  installPackages()
  buildRelease()
  buildTypeScript()
  for (const name of wanted) {
    heading(name)
    run(process.execPath, [join('benches', name)])
  }
})
