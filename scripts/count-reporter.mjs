// A reporter of node:test, beside the one that people read: what came of each file, as JSON.

export default async function* count(events) {
  const files = {}
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue
    const file = (files[data.file] ??= { passed: 0, failed: 0, skipped: 0, ms: 0, failures: [] })
    if (data.nesting === 0) file.ms += data.details.duration_ms
    // A describe fails with what is in it; alone it fails by its hooks.
    const isSuite = data.details.type === 'suite'
    if (type === 'test:fail' && !(isSuite && data.details.error?.failureType === 'subtestsFailed')) {
      file.failed++
      file.failures.push(data.name)
    } else if (!isSuite && type === 'test:pass') {
      file[data.skip === undefined ? 'passed' : 'skipped']++
    }
  }
  yield JSON.stringify(files)
}
