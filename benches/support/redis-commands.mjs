// What a Redis was asked to do, from its own counts.
const OUR_OWN = /^(info|config)/

/** Starts the counts anew. */
export const resetCommands = (client) => client.config('RESETSTAT')

/** Since then: `scripts`, and `all` commands with those that scripts call. */
export async function commands(client) {
  let [scripts, all] = [0, 0]
  for (const [, name, calls] of (await client.info('commandstats')).matchAll(/cmdstat_([^:]+):calls=(\d+)/g)) {
    if (OUR_OWN.test(name)) continue
    all += Number(calls)
    if (name.startsWith('eval')) scripts += Number(calls)
  }
  return { scripts, all }
}
