// ARCHITECTURE.md's map of rooms against the tree: every room is named, and what is named is there.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root, run } from './run.mjs'

/** The rooms that each store furnishes as it needs; the map has one row for them all. */
const A_STORE = 'src/stores/<store>/'
const ROOTS = ['src', 'ts', 'tests', '__test__', 'benches', 'scripts', 'docs', 'examples', 'npm']

/** What is wrong with the map. */
export function mapFaults() {
  const named = namedPlaces()
  const files = run('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--', ...ROOTS], { quiet: true })
    .split('\n')
    // Tests beside a file are its own.
    .filter((file) => file && !file.endsWith('/tests.rs') && existsSync(join(root, file)))
  const missing = named.filter((place) => place !== A_STORE && !files.some((file) => fits(file, place))).map((place) => `${place} is not there`)
  // Whatever lies directly in src is a room of its own, though it be one file.
  const rooms = new Set(files.map((file) => (dirname(file) === 'src' ? file : `${dirname(file)}/`)))
  rooms.delete('src/lib.rs')
  const unnamed = [...rooms].filter((room) => !named.some((place) => isIn(room, place))).map((room) => `${room} is on no row`)
  return [...missing, ...unnamed]
}

/** The first column of the table, where a name without a directory lies beside the one before it. */
function namedPlaces() {
  const table = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8').split('## Rooms')[1].split('\n## ')[0]
  return [...table.matchAll(/^\| (`[^|]*) \|/gm)].flatMap(([, cell]) => {
    let beside = ''
    return [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => {
      const place = name.includes('/') ? name : join(beside, name)
      beside = dirname(place)
      return place
    })
  })
}

function fits(file, place) {
  return place.endsWith('*') ? file.startsWith(place.slice(0, -1)) : place.endsWith('/') ? file.startsWith(place) : file === place
}

function isIn(room, place) {
  if (place === A_STORE) return /^src\/stores\/[a-z]+\//.test(room)
  if (place.endsWith('*')) return room.startsWith(place.slice(0, -1))
  if (place.endsWith('/')) return room.startsWith(place)
  return room === place || (room.endsWith('/') && room !== 'src/' && `${dirname(place)}/` === room)
}
