// Full TimescaleDB in WebAssembly, in this process: an unofficial build, for tests only. Its packages are apart, in
// test/timescale-wasm. MILLRACE_NO_SKIP=1: their absence fails instead of skipping.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import type { SqlClient } from '../../../cloud/database.ts'
import { timescaleSuite } from '../../helpers/timescale-suite.ts'

type Pglite = {
  query<Row>(text: string, values: unknown[]): Promise<{ rows: Row[] }>
  exec<Row>(text: string): Promise<{ rows: Row[] }[]>
  close(): Promise<void>
}

const FOLDER = join(import.meta.dirname, '..', '..', 'timescale-wasm')
const DIST = join(FOLDER, 'node_modules', '@unni-craftsman', 'pglite', 'dist')
const MISSING = 'not installed: run npm ci --prefix test/timescale-wasm'

async function openPglite(): Promise<Pglite> {
  const main = pathToFileURL(join(DIST, 'index.js')).href
  const extension = pathToFileURL(join(DIST, 'timescaledb', 'index.js')).href
  const { PGlite }: { PGlite: { create(options: object): Promise<Pglite> } } = await import(main)
  const { timescaledb }: { timescaledb: object } = await import(extension)
  return PGlite.create({ extensions: { timescaledb } })
}

/** `exec` takes several statements but no values, `query` the other way about. */
function clientOf(pglite: Pglite): SqlClient {
  return {
    async query<Row>(text: string, values?: unknown[]) {
      if (values !== undefined) return pglite.query<Row>(text, values)
      return (await pglite.exec<Row>(text)).at(-1) ?? { rows: [] }
    }
  }
}

const installed = existsSync(join(DIST, 'index.js'))
if (!installed && process.env.MILLRACE_NO_SKIP === '1') t.fail(MISSING)
await t.test('TimescaleDB in WebAssembly', { skip: installed ? false : MISSING }, async (t) => {
  const pglite = await openPglite()
  t.teardown(() => pglite.close())
  await timescaleSuite(t, clientOf(pglite))
})
