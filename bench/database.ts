// The benches' database: a new one on the server that TEST_DATABASE_URL names, else on an embedded PostgreSQL with its
// default durability. Migrated, and dropped at the end.
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { openDatabase } from '../cloud/database.ts'
import type { Database, Engine } from '../cloud/database.ts'
import { migrate } from '../cloud/migrate.ts'
import { startPostgres } from '../demo/postgres.ts'
import { silentLog } from '../shared/log.ts'
import type { Context } from './bench.ts'

export type BenchDatabase = {
  url: string
  database: Database
  engine: Engine
  /** What it is, for the notes. */
  shown: string
  sql(text: string, values?: unknown[]): Promise<unknown[]>
}

export const POLICIES = { retentionDays: 180, compressAfterDays: 7 }

/** Neither a checkpoint nor an autovacuum of one round falls into another's. */
const QUIET_SETTINGS = { max_wal_size: '8GB', checkpoint_timeout: '1h', autovacuum: 'off', shared_buffers: '512MB' }

export async function openBenchDatabase(context: Context): Promise<BenchDatabase> {
  const serverUrl = await findServer(context)
  const name = `bench_${randomBytes(6).toString('hex')}`
  const server = openDatabase({ url: serverUrl, max: 1, log: silentLog(), applicationName: 'bench' })
  context.closers.add('server', server.close)
  await server.withClient((client) => client.query(`CREATE DATABASE ${name}`))
  context.closers.add('drop', () =>
    server.withClient((client) => client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)).then(() => undefined)
  )
  const url = withDatabase(serverUrl, name)
  const database = openDatabase({ url, log: silentLog(), applicationName: 'bench', statementTimeoutMs: 0 })
  context.closers.add('database', database.close)
  const { engine } = await database.withClient((client) => migrate({ client, log: silentLog(), policies: POLICIES }))
  const timescale =
    engine.timescaleVersion === null ? '' : `TimescaleDB ${engine.timescaleVersion} (${engine.kind}) on `
  return {
    url,
    database,
    engine,
    shown: `${timescale}PostgreSQL ${engine.serverVersion}`,
    sql: async (text, values) => (await database.withClient((client) => client.query(text, values))).rows
  }
}

async function findServer(context: Context): Promise<string> {
  const given = process.env['TEST_DATABASE_URL']
  if (given !== undefined && given !== '') return given
  const server = await startPostgres({ dataDir: context.folder('postgres'), settings: QUIET_SETTINGS })
  context.closers.add('postgres', async () => {
    await server.stop('immediate')
    rmSync(server.dataDir, { recursive: true, force: true })
  })
  return server.url
}

function withDatabase(serverUrl: string, name: string): string {
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return url.href
}
