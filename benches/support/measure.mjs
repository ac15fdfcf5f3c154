// Measuring on a shared machine: contenders take turns in one run, and medians and ratios are what counts.
import { readdirSync, readFileSync } from 'node:fs'
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

/** CPU time of all threads of this process in ms. */
function processCpuMs() {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** CPU time of all threads of another process in ms, from the scheduler's own count; NaN where there is none. */
function otherCpuMs(pid) {
  try {
    const tasks = readdirSync(`/proc/${pid}/task`).map((task) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]))
    return tasks.reduce((sum, ns) => sum + ns, 0) / 1e6
  } catch {
    return NaN
  }
}

/** Starts counting CPU time; the answered function tells how many µs went to each since, by `cycles`. */
function countCpu(serverPid) {
  const read = () => [mainThreadCpuMs(), processCpuMs(), serverPid === undefined ? NaN : otherCpuMs(serverPid)]
  const before = read()
  return (cycles) => {
    const [mainUs, allUs, serverUs] = read().map((ms, i) => ((ms - before[i]) * 1000) / cycles)
    return { mainUs, allUs, serverUs }
  }
}

/**
 * Runs `cycle(n)` with `inFlight` at once for `ms`; answers cycles per second, and µs of CPU per cycle: of the main
 * thread, of this process, and of the server with this pid.
 */
export async function throughput(cycle, { inFlight, ms, serverPid }) {
  let cycles = 0
  const end = performance.now() + ms
  const cpu = countCpu(serverPid)
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
  return { perSecond: cycles / seconds, ...cpu(cycles) }
}

/** As `latency`, with the µs of CPU per cycle as `throughput` has them. */
export async function latencyAndCpu(cycle, { serverPid, ...limits }) {
  const cpu = countCpu(serverPid)
  let cycles = 0
  const us = await latency((lane) => (cycles++, cycle(lane)), limits)
  return { us, ...cpu(cycles) }
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
