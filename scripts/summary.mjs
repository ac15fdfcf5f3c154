// What a run of several suites comes to.

/** Prints a line per result, what failed, and, last, the sum; answers whether all is well. */
export function summarise(results, ms) {
  const width = Math.max(...results.map(({ name }) => name.length))
  for (const { name, passed, failed, skipped, ms } of results) {
    const parts = [`${passed} passed`, failed > 0 && `${failed} failed`, skipped > 0 && `${skipped} left out`].filter(Boolean)
    console.log(`${failed > 0 ? 'FAILED' : 'ok    '}  ${name.padEnd(width)}  ${seconds(ms).padStart(6)}  ${parts.join(', ')}`)
  }
  const slowest = results.flatMap(({ slowest = [] }) => slowest).sort((a, b) => b.ms - a.ms)
  if (slowest.length > 8)
    console.log(
      `\nlongest files: ${slowest
        .slice(0, 8)
        .map(({ name, ms }) => `${name.replace('__test__/', '')} ${seconds(ms)}`)
        .join(', ')}`
    )
  const failed = results.filter((result) => result.failed > 0)
  if (failed.length > 0) {
    console.log('\nfailed:')
    for (const { name, failures } of failed) for (const failure of failures) console.log(`- ${name}: ${failure}`)
  }
  const sum = (field) => results.reduce((total, result) => total + result[field], 0)
  console.log(`\nsyncguard: ${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} left out (${seconds(ms)})`)
  return sum('failed') === 0
}

const seconds = (ms) => `${Math.round(ms / 1000)} s`
