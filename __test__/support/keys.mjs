// Keys of one test's own, so that tests can share a server.
let count = 0

export const uniqueKey = (label = 'key') => `${label}-${process.pid}-${++count}-${Math.random().toString(36).slice(2, 8)}`
