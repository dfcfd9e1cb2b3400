import { globSync, readFileSync } from 'node:fs'
import { sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { z } from 'zod'
import { layoutBreaches } from '../helpers/layout.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Left out: its planted cases would count as imports. */
const THIS_FILE = 'test/shared/imports.test.ts'
const FOLDERS = ['shared', 'edge', 'cloud', 'demo', 'bench', 'scripts', 'test']

const manifest = z
  .object({ dependencies: z.record(z.string(), z.string()), scripts: z.record(z.string(), z.string()) })
  .parse(JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8')))

function projectSources(): Map<string, string> {
  const paths = FOLDERS.flatMap((folder) => globSync(`${folder}/**/*.{ts,mjs}`, { cwd: ROOT }))
    .map((path) => path.split(sep).join('/'))
    .filter((path) => !path.includes('node_modules/') && path !== THIS_FILE)
  return new Map(paths.map((path) => [path, readFileSync(`${ROOT}/${path}`, 'utf8')]))
}

t.test('the sources keep to the layout', async (t) => {
  const sources = projectSources()
  for (const known of ['shared/reading.ts', 'test/helpers/layout.ts', 'scripts/run.mjs']) {
    t.ok(sources.has(known), `${known} is among the files read`)
  }
  t.same(layoutBreaches(sources, manifest), [])
})

/** What is there to be imported in the planted cases. */
const PLANTED = [
  'shared/reading.ts',
  'edge/main.ts',
  'edge/intake.ts',
  'edge/buffer/store.ts',
  'cloud/database.ts',
  'cloud/migrate-main.ts',
  'demo/plant.ts',
  'test/helpers/wait-for.ts'
]

function breachesOf(file: string, text: string): string[] {
  return layoutBreaches(new Map([...PLANTED.map((path): [string, string] => [path, '']), [file, text]]), manifest)
}

const refused: [fact: string, file: string, text: string][] = [
  ['the edge may not import the cloud', 'edge/x.ts', "import { a } from '../cloud/database.ts'"],
  ['the cloud may not import the edge', 'cloud/x.ts', "import { a } from '../edge/intake.ts'"],
  ['not even a type', 'cloud/x.ts', "import type { A } from '../edge/intake.ts'"],
  ['not by re-export', 'cloud/x.ts', "export { a } from '../edge/intake.ts'"],
  ['not by a dynamic import', 'cloud/x.ts', "const a = await import('../edge/intake.ts')"],
  ['not over several lines', 'cloud/x.ts', "import {\n  a,\n  b\n} from '../edge/intake.ts'"],
  ['not for its effects', 'cloud/x.ts', "import '../edge/intake.ts'"],
  ['not as a worker', 'cloud/x.ts', "new Worker(new URL('../edge/buffer/store.ts', import.meta.url))"],
  ['shared may not import the edge', 'shared/x.ts', "import { a } from '../edge/intake.ts'"],
  ['shared may not import the cloud', 'shared/mqtt/x.ts', "import { a } from '../../cloud/database.ts'"],
  ['the edge may not import the demo', 'edge/x.ts', "import { a } from '../demo/plant.ts'"],
  ['the demo may not import a main', 'demo/x.ts', "import { a } from '../edge/main.ts'"],
  ['a test may not import a main', 'test/edge/x.test.ts', "import { a } from '../../cloud/migrate-main.ts'"],
  ['a bench may not import from the tests', 'bench/x.ts', "import { waitFor } from '../test/helpers/wait-for.ts'"],
  ['an import without .ts', 'edge/x.ts', "import { a } from '../shared/reading'"],
  ['SQLite outside the buffer', 'edge/intake.ts', "import Database from 'better-sqlite3'"],
  ['SQLite in the cloud', 'cloud/x.ts', "import Database from 'better-sqlite3'"],
  ['pg in the edge', 'edge/x.ts', "import pg from 'pg'"],
  ['pg beside the stores', 'cloud/http/health.ts', "import pg from 'pg'"],
  ['COPY streams beside the stores', 'cloud/config.ts', "import { from } from 'pg-copy-streams'"],
  ['Fastify outside http', 'cloud/x.ts', "import { fastify } from 'fastify'"],
  ['MQTT in the intake', 'edge/intake.ts', "import { connect } from 'mqtt'"],
  ['aedes in http', 'cloud/http/x.ts', "import { Aedes } from 'aedes'"],
  ['a package that is only for development', 'cloud/x.ts', "import { parse } from 'yaml'"],
  ['the environment outside main and config', 'edge/x.ts', 'const a = process.env.HOME'],
  ['the environment in brackets', 'cloud/x.ts', "const a = process.env['HOME']"]
]

const allowed: [fact: string, file: string, text: string][] = [
  ['the edge imports shared', 'edge/x.ts', "import { a } from '../shared/reading.ts'"],
  [
    'the demo imports all sides',
    'demo/x.ts',
    "import { a } from '../edge/intake.ts'\nimport { b } from '../cloud/database.ts'"
  ],
  ['a type of pg beside the stores', 'cloud/status-page.ts', "import type { Pool } from 'pg'"],
  ['pg in a store', 'cloud/ingest/rows.ts', "import { from } from 'pg-copy-streams'"],
  ['SQLite in the buffer', 'edge/buffer/file.ts', "import Database from 'better-sqlite3'"],
  ['MQTT in the doors, the uplink, ingest and the broker', 'edge/uplink/x.ts', "import { connect } from 'mqtt'"],
  ['the environment in a main', 'edge/main.ts', 'const a = process.env'],
  ['the environment in what an npm script starts', 'cloud/rows.ts', 'const a = process.env'],
  ['the environment in a demo', 'demo/x.ts', 'const a = process.env.HOME'],
  ['an import in a comment', 'edge/x.ts', "// import { a } from '../cloud/database.ts'\n/*\nimport pg from 'pg'\n*/"]
]

for (const [fact, file, text] of refused) {
  t.test(`refused: ${fact}`, async (t) => {
    const breaches = breachesOf(file, text)
    t.equal(breaches.length, 1)
    t.match(breaches[0], file)
  })
}

for (const [fact, file, text] of allowed) {
  t.test(`allowed: ${fact}`, async (t) => t.same(breachesOf(file, text), []))
}
