// What the addon is made of, held to deny.toml without a network: licences, banned crates, where they come from.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root, run } from './run.mjs'

/** Each crate that breaks a rule, with the rule. */
export function forbiddenIngredients() {
  const rules = readFileSync(join(root, 'deny.toml'), 'utf8')
  const list = (name) => JSON.parse(new RegExp(`^${name} = (\\[[^\\]]*\\])`, 'm').exec(rules)[1])
  const [allowed, banned, registries] = ['allow', 'deny', 'allow-registry'].map(list)
  const { packages } = JSON.parse(run('cargo', ['metadata', '--format-version', '1', '--locked'], { quiet: true }))
  return packages.flatMap(({ name, license, source }) => {
    const found = []
    if (!isAllowed(license, allowed)) found.push(`${name} (licence ${license})`)
    if (banned.includes(name)) found.push(`${name} (banned)`)
    if (source !== null && !registries.some((registry) => source === `registry+${registry}`)) found.push(`${name} (from ${source})`)
    return found
  })
}

/** An SPDX expression as crates write them: alternatives, of which several may have to hold together. */
function isAllowed(license, allowed) {
  const parts = (license ?? 'none').split(' AND ').map((part) => part.replace(/^\(|\)$/g, ''))
  return parts.every((part) => part.split(/ OR | ?\/ ?/).some((name) => allowed.includes(name)))
}
