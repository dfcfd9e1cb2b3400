// What all faults of a run share: a folder, and a PostgreSQL with a migrated database to copy.
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startPostgres } from '../../demo/postgres.ts'
import type { PostgresServer } from '../../demo/postgres.ts'
import { startProgram } from './program.ts'
import { until } from './until.ts'

export type Bed = {
  folder: string
  /** An empty migrated database of its own. */
  database(): Promise<string>
  close(): Promise<void>
}

/** The machine isn't cut off, only processes are: what the server wrote stays. */
export const SERVER_SETTINGS = { fsync: 'off', full_page_writes: 'off', max_connections: '60' }

const MIGRATE_MS = 60_000
const TEMPLATE = 'millrace'

export async function openBed(): Promise<Bed> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-faults-'))
  chmodSync(folder, 0o711)
  let server: PostgresServer | null = null
  let databases = 0

  async function open(): Promise<PostgresServer> {
    const started = await startPostgres({ dataDir: join(folder, 'postgres'), settings: SERVER_SETTINGS })
    server = started
    await migrateDatabase(started.url, join(folder, 'migrate.log'))
    return started
  }

  return {
    folder,
    async database() {
      const { url } = server ?? (await open())
      databases += 1
      const name = `fault_${databases}`
      const admin = new URL(url)
      admin.pathname = '/postgres'
      await withConnection(admin.href, (db) => db.query(`CREATE DATABASE ${name} TEMPLATE ${TEMPLATE}`))
      const own = new URL(url)
      own.pathname = `/${name}`
      return own.href
    },
    async close() {
      await server?.stop('immediate')
      if (server !== null) rmSync(server.dataDir, { recursive: true, force: true })
      // What a failed fault left for looking at stays.
      rmSync(join(folder, 'postgres'), { recursive: true, force: true })
      rmSync(join(folder, 'migrate.log'), { force: true })
    }
  }
}

export function makeFolder(...parts: string[]): string {
  const folder = join(...parts)
  mkdirSync(folder, { recursive: true })
  return folder
}

export async function migrateDatabase(url: string, logFile: string): Promise<void> {
  const migration = startProgram({
    name: 'migrate',
    file: 'cloud/migrate-main.ts',
    env: { DATABASE_URL: url },
    logFile
  })
  const end = await until('the migrations to end', MIGRATE_MS, () => migration.ended())
  if (end.status !== 0) throw new Error(`the migrations ended with ${JSON.stringify(end)}; see ${logFile}`)
}

export async function withConnection<T>(url: string, work: (db: pg.Client) => Promise<T>): Promise<T> {
  const db = new pg.Client({ connectionString: url })
  db.on('error', () => undefined)
  await db.connect()
  try {
    return await work(db)
  } finally {
    await db.end()
  }
}
