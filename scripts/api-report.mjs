// The public types of every entry as one text, without comments: __test__/types/api-report.txt. `npm run check:ts`
// compares it with what ts/ says, so that no public type changes unnoticed; `npm run api:accept` writes it anew.
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import ts from 'typescript'
import { root } from './run.mjs'

const report = join(root, '__test__', 'types', 'api-report.txt')
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const entries = Object.values(exports)
  .map((entry) => entry.import?.default.match(/([^/]+)\.mjs$/)?.[1])
  .filter(Boolean)
const { options } = ts.parseJsonConfigFileContent(ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config, ts.sys, root)

/** The declarations as the compiler writes them, from memory: what is in dist may be old. */
function declarations() {
  const texts = new Map()
  const sources = entries.map((entry) => join(root, 'ts', `${entry}.ts`))
  ts.createProgram(sources, { ...options, noEmit: false, emitDeclarationOnly: true, removeComments: true }).emit(undefined, (path, text) => texts.set(path, text))
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = (path) => texts.has(path) || fileExists(path)
  host.readFile = (path) => texts.get(path) ?? readFile(path)
  host.getSourceFile = (path, ...rest) => (texts.has(path) ? ts.createSourceFile(path, texts.get(path), ts.ScriptTarget.ES2022, true) : getSourceFile(path, ...rest))
  const program = ts.createProgram(
    entries.map((entry) => join(options.outDir, `${entry}.d.ts`)),
    options,
    host
  )
  return { program, isOurs: (declaration) => texts.has(declaration.getSourceFile().fileName) }
}

const { program, isOurs } = declarations()
const checker = program.getTypeChecker()
const resolved = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol)
const printer = ts.createPrinter({ removeComments: true })

/** A symbol's declarations as text, and the symbols of ours that they name. */
function describe(symbol) {
  const named = new Set()
  const texts = (symbol.declarations ?? []).filter(isOurs).map((declaration) => {
    const statement = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration
    const visit = (node) => {
      const target = ts.isIdentifier(node) && checker.getSymbolAtLocation(node)
      if (target) named.add(resolved(target))
      ts.forEachChild(node, visit)
    }
    visit(statement)
    return printer.printNode(ts.EmitHint.Unspecified, statement, statement.getSourceFile())
  })
  return { text: texts.join('\n'), named: [...named].filter((each) => each !== symbol && isTopLevel(each)) }
}

const isTopLevel = (symbol) => (symbol.declarations ?? []).some((each) => isOurs(each) && (ts.isSourceFile(each.parent) || ts.isVariableDeclaration(each)))

const all = new Set()
const lines = entries.map((entry) => {
  const module = checker.getSymbolAtLocation(program.getSourceFile(join(options.outDir, `${entry}.d.ts`)))
  const symbols = checker.getExportsOfModule(module)
  for (const symbol of symbols) all.add(resolved(symbol))
  const names = symbols.map((symbol) => {
    const home = basename(resolved(symbol).declarations[0].getSourceFile().fileName, '.d.ts')
    return home === entry || entry === 'index' ? symbol.name : `${symbol.name} (${home})`
  })
  return `# ${entry === 'index' ? 'syncguard' : `syncguard/${entry}`}\n${names.sort().join('\n')}\n`
})
// Growing while it is walked: what a declaration names belongs to the surface, too.
const described = new Map()
for (const symbol of all) {
  const { text, named } = describe(symbol)
  described.set(symbol, `// ${basename(symbol.declarations[0].getSourceFile().fileName, '.d.ts')}\n${text}`)
  for (const each of named) all.add(each)
}
const text = `${lines.join('\n')}\n# Declarations\n${[...described.values()].sort().join('\n\n')}\n`

if (process.argv.includes('--accept')) {
  writeFileSync(report, text)
} else {
  const before = readFileSync(report, 'utf8')
  if (before !== text) {
    const [old, now] = [before, text].map((each) => each.split('\n'))
    for (const line of old.filter((line) => !now.includes(line))) console.error(`- ${line}`)
    for (const line of now.filter((line) => !old.includes(line))) console.error(`+ ${line}`)
    console.error('\nThe public types changed. If that is meant: npm run api:accept, and a line in CHANGELOG.md.')
    process.exitCode = 1
  }
}
