// A history of operations, and a checker of what must hold over it (I1 to I3 of the reliability record):
//   I1  the register never accepted fences of a key out of order;
//   I2  fences of a key are unique, and a grant that returned before another was asked for has the lower fence;
//   I3  no two holders of a key overlap in [acquire returned, min(release called, local deadline)].
// A line: { key, process, lockId, fence, called, returned, released?, deadline }, times in ns of CLOCK_MONOTONIC as
// decimal strings or BigInt; `released` is when release was called, `deadline` the local one. Fences order the holders, so one pass suffices.

const ns = (value) => BigInt(value)

/** Answers the violations, in words; none is an empty array. */
export function violations(grants, accepted = []) {
  const found = []
  for (const [key, ofKey] of groupBy(grants, ({ key }) => key)) {
    const byFence = [...ofKey].sort((a, b) => (a.fence < b.fence ? -1 : a.fence > b.fence ? 1 : 0))
    found.push(...ofOneKey(key, byFence))
  }
  for (const [key, writes] of groupBy(accepted, ({ key }) => key)) {
    for (let i = 1; i < writes.length; i++) {
      if (writes[i].fence < writes[i - 1].fence) found.push(`I1: the register accepted ${writes[i].fence} after ${writes[i - 1].fence} for ${key}`)
    }
  }
  return found
}

function ofOneKey(key, byFence) {
  const found = []
  // The latest call so far: a later fence whose grant returned before that call was out of order.
  let latestCall
  let latestEnd
  for (const [i, grant] of byFence.entries()) {
    if (!/^\d{15}$/.test(grant.fence)) found.push(`I2: ${JSON.stringify(grant.fence)} is no fence (${key})`)
    if (i > 0 && byFence[i - 1].fence === grant.fence) found.push(`I2: fence ${grant.fence} was granted twice for ${key}`)
    if (latestCall && ns(grant.returned) < ns(latestCall.called)) {
      found.push(`I2: ${grant.fence} was granted before ${latestCall.fence} was asked for (${key})`)
    }
    if (latestEnd && ns(grant.returned) < end(latestEnd)) {
      found.push(`I3: ${grant.fence} was granted while ${latestEnd.fence} was held (${key}, overlap ${(end(latestEnd) - ns(grant.returned)) / 1000n} µs)`)
    }
    if (!latestCall || ns(grant.called) > ns(latestCall.called)) latestCall = grant
    if (!latestEnd || end(grant) > end(latestEnd)) latestEnd = grant
  }
  return found
}

function end({ released, deadline }) {
  const last = ns(deadline)
  return released !== undefined && ns(released) < last ? ns(released) : last
}

function groupBy(items, keyOf) {
  const groups = new Map()
  for (const item of items) {
    const key = keyOf(item)
    if (!groups.has(key)) groups.set(key, [])
    groups.get(key).push(item)
  }
  return groups
}
