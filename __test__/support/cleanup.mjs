// Whatever a test starts ends with the test's process, also when the test failed or somebody pressed Ctrl-C.

const endings = new Set()

/** Runs `end` (synchronous) when this process ends. Answers a function that takes the promise back. */
export function atExit(end) {
  endings.add(end)
  return () => endings.delete(end)
}

function runAll() {
  for (const end of endings) {
    try {
      end()
    } catch {
      // The others must still be ended.
    }
  }
  endings.clear()
}

process.on('exit', runAll)
for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1]
]) {
  process.once(signal, () => {
    runAll()
    process.exit(128 + number)
  })
}
