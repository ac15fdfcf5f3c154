// Measuring on a shared machine: contenders take turns in one run, and medians and ratios are what counts.
import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'

export const median = (numbers) => quantile(numbers, 0.5)

export function quantile(numbers, q) {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]
}

/** CPU time of the main thread in ms, from the scheduler's own count; NaN where there is none. */
export function mainThreadCpuMs() {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
  } catch {
    return NaN
  }
}

/** Runs `cycle(n)` with `inFlight` at once for `ms`; answers cycles per second and main-thread µs per cycle. */
export async function throughput(cycle, { inFlight, ms }) {
  let cycles = 0
  const end = performance.now() + ms
  const cpu = mainThreadCpuMs()
  const begin = performance.now()
  await Promise.all(
    Array.from({ length: inFlight }, async (_, lane) => {
      while (performance.now() < end) {
        await cycle(lane)
        cycles++
      }
    })
  )
  const seconds = (performance.now() - begin) / 1000
  return { perSecond: cycles / seconds, mainUs: ((mainThreadCpuMs() - cpu) * 1000) / cycles }
}

/** Times single cycles one after another, `count` of them or as many as begin within `ms`; answers the median in µs. */
export async function latency(cycle, { count, ms = Infinity }) {
  const times = []
  const end = performance.now() + ms
  for (let i = 0; i < count && performance.now() < end; i++) {
    const begin = performance.now()
    await cycle(0)
    times.push((performance.now() - begin) * 1000)
  }
  return median(times)
}

/** Lets the contenders take turns; answers for each the list of what `measure` answered. */
export async function inTurns(contenders, rounds, measure) {
  const results = new Map(contenders.map(({ name }) => [name, []]))
  for (let round = 0; round <= rounds; round++) {
    for (const contender of contenders) {
      const result = await measure(contender)
      if (round > 0) results.get(contender.name).push(result) // the first round warms up
    }
  }
  return results
}

export function table(title, rows) {
  console.log(`\n${title}`)
  const columns = Object.keys(rows[0])
  const cells = [columns, ...rows.map((row) => columns.map((column) => String(row[column])))]
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i].length)))
  for (const line of cells) console.log(`  ${line.map((cell, i) => cell.padEnd(widths[i])).join('  ')}`)
}

export const round = (number, digits = 2) => Number(number.toFixed(digits))
