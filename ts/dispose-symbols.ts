// `await using` finds what it calls by these symbols, which Node.js 20.0 to 20.3 lack, and contexts of `vm` (jest) in 20 and
// 22. Without them a handle's method would have the name "undefined". They are those of later versions: from the
// registry of symbols, so that other copies and contexts mean the same, and where compiled code looks for them.

for (const name of ["dispose", "asyncDispose"] as const) {
  if (Symbol[name] === undefined) Object.defineProperty(Symbol, name, { value: Symbol.for(`nodejs.${name}`) });
}
