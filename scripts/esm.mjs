// Writes dist/X.mjs and dist/X.d.mts for every entry X: named re-exports of the CommonJS build, so that `import`
// and `require` share one implementation and one LockError. The names come from the types, without loading the addon.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..')
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const entries = Object.values(exports)
  .map((entry) => entry.import?.default?.match(/^\.\/dist\/(.+)\.mjs$/)?.[1])
  .filter(Boolean)

const files = entries.map((entry) => join(root, 'ts', `${entry}.ts`))
const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
const program = ts.createProgram(files, options)
const checker = program.getTypeChecker()

for (const [i, entry] of entries.entries()) {
  const module = checker.getSymbolAtLocation(program.getSourceFile(files[i]))
  const names = checker
    .getExportsOfModule(module)
    .filter(isValue)
    .map((symbol) => symbol.name)
    .sort()
  writeFileSync(join(root, 'dist', `${entry}.mjs`), `export {\n${names.map((name) => `  ${name},\n`).join('')}} from "./${entry}.js";\n`)
  writeFileSync(join(root, 'dist', `${entry}.d.mts`), `export * from "./${entry}.js";\n`)
}

function isValue(symbol) {
  const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
  return (target.flags & ts.SymbolFlags.Value) !== 0 && !isTypeOnly(symbol)
}

function isTypeOnly(symbol) {
  return (symbol.declarations ?? []).some((declaration) => ts.isTypeOnlyImportOrExportDeclaration(declaration))
}
