// The rules of the layout, as far as imports and a few names show them. A source is given as text, so that a breach can
// be tested without one being in the project.

/** Paths from the project's root, with `/`, and their text. */
export type Sources = ReadonlyMap<string, string>

/** The parts of package.json that the rules read. */
export type Manifest = { dependencies: Record<string, string>; scripts: Record<string, string> }

type Import = { specifier: string; typeOnly: boolean }

/** Which top folders a folder's files may import from. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  shared: ['shared'],
  edge: ['edge', 'shared'],
  cloud: ['cloud', 'shared'],
  demo: ['demo', 'edge', 'cloud', 'shared'],
  bench: ['bench', 'demo', 'edge', 'cloud', 'shared', 'scripts'],
  scripts: ['scripts'],
  test: ['test', 'bench', 'demo', 'edge', 'cloud', 'shared', 'scripts']
}

/** The folders that are shipped; only these are bound to the runtime dependencies and to the owners below. */
const SHIPPED = ['shared', 'edge', 'cloud']

/** Packages that only some shipped files may use; a type-only import is free. */
const OWNERS: readonly { packages: RegExp; files: RegExp }[] = [
  { packages: /^better-sqlite3$/, files: /^edge\/buffer/ },
  {
    packages: /^pg(-.*)?$/,
    files: /^cloud\/(database\.ts|rows\.ts|tasks\.ts|(ingest|maintenance|migrat|status)[^/]*(\/|\.ts$))/
  },
  { packages: /^(fastify|@fastify\/.*)$/, files: /^cloud\/http\// },
  {
    packages: /^(mqtt|mqtt-packet|aedes|aedes-.*)$/,
    files: /^(shared\/mqtt\/|edge\/(doors|uplink)[^/]*(\/|\.ts$)|cloud\/ingest\/|cloud\/broker\.ts$)/
  }
]

/** One line for each breach: the file and what it may not do. */
export function layoutBreaches(sources: Sources, manifest: Manifest): string[] {
  const breaches: string[] = []
  for (const [file, text] of sources) {
    const code = withoutComments(text)
    for (const { specifier, typeOnly } of importsOf(code)) {
      const problem = specifier.startsWith('.')
        ? relativeProblem(file, specifier, sources)
        : packageProblem(file, specifier, typeOnly, manifest)
      if (problem !== null) breaches.push(`${file} imports ${specifier}: ${problem}`)
    }
    if (SHIPPED.includes(topOf(file)) && /\bprocess\s*\.\s*env\b/.test(code) && !mayReadEnvironment(file, manifest)) {
      breaches.push(`${file} reads process.env: only a main.ts and a config.ts may`)
    }
  }
  return breaches
}

function relativeProblem(file: string, specifier: string, sources: Sources): string | null {
  const target = resolvePath(file, specifier)
  const from = topOf(file)
  const to = topOf(target)
  // Its version is shown by the services.
  if (target === 'package.json') return null
  if (isMain(target)) return 'nothing imports a main'
  if (!(MAY_IMPORT[from] ?? []).includes(to)) return `${from}/ may not import from ${to}/`
  if (!sources.has(target)) return 'there is no such file (imports are written with .ts)'
  return null
}

function packageProblem(file: string, specifier: string, typeOnly: boolean, manifest: Manifest): string | null {
  if (!SHIPPED.includes(topOf(file)) || specifier.startsWith('node:') || typeOnly) return null
  const [scopeOrName = '', name = ''] = specifier.split('/')
  const packageName = scopeOrName.startsWith('@') ? `${scopeOrName}/${name}` : scopeOrName
  if (!Object.hasOwn(manifest.dependencies, packageName)) return `${packageName} is not among the dependencies`
  const owner = OWNERS.find(({ packages }) => packages.test(packageName))
  return owner === undefined || owner.files.test(file) ? null : `only ${owner.files.source} may`
}

/** A `main.ts`, a `…-main.ts`. */
function isMain(file: string): boolean {
  return /(^|\/|-)main\.ts$/.test(file)
}

/** A `config.ts`, or what an npm script starts. */
function mayReadEnvironment(file: string, manifest: Manifest): boolean {
  if (isMain(file) || /(^|\/)config\.ts$/.test(file)) return true
  return Object.values(manifest.scripts).some((command) => command.split(' ').includes(file))
}

/** Static imports and re-exports, dynamic imports, and the files that workers are made of. */
function importsOf(code: string): Import[] {
  const found: Import[] = []
  const statics = /^[ \t]*(?:import|export)\s+(type\s)?(?:[^'"`;()]*?\sfrom\s*)?['"]([^'"]+)['"]/gm
  for (const [, type, specifier] of code.matchAll(statics)) {
    if (specifier !== undefined) found.push({ specifier, typeOnly: type !== undefined })
  }
  const dynamics =
    /(?:\b(?:import|require)|\bimport\.meta\.resolve)\(\s*['"]([^'"]+)['"]|\bnew URL\(\s*['"](\.[^'"]+\.ts)['"]/g
  for (const [, imported, url] of code.matchAll(dynamics)) {
    const specifier = imported ?? url
    if (specifier !== undefined) found.push({ specifier, typeOnly: false })
  }
  return found
}

/** Comments that have a line or more to themselves go; those behind code stay, they hold no imports. */
function withoutComments(text: string): string {
  return text.replace(/^[ \t]*\/\*[\s\S]*?\*\//gm, '').replace(/^[ \t]*\/\/.*$/gm, '')
}

function topOf(file: string): string {
  return file.slice(0, file.indexOf('/'))
}

function resolvePath(file: string, specifier: string): string {
  const parts = file.split('/').slice(0, -1)
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '.') parts.push(part)
  }
  return parts.join('/')
}
