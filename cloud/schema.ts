// The state of a database's schema against the program's migrations, from the history table that `migrate` keeps.
import { z } from 'zod'
import { AppError } from '../shared/errors.ts'
import type { SqlClient } from './database.ts'
import { ENGINE_KINDS } from './engine.ts'
import type { EngineKind } from './engine.ts'
import { migrationsFolder, readMigrations } from './migrations.ts'
import type { Migration } from './migrations.ts'

const historyRow = z.object({
  version: z.string(),
  name: z.string(),
  checksum: z.string(),
  engine: z.enum(ENGINE_KINDS)
})

export type AppliedMigration = z.infer<typeof historyRow>

export type SchemaState = {
  /** The newest migration in the database, null before the first. */
  version: string | null
  /** The program's newest. */
  expected: string
  /** The engine that the tables were made for, null before the first; it decides between hypertable and partitions. */
  engine: EngineKind | null
  state: 'current' | 'missing' | 'behind' | 'newer' | 'changed'
}

/** What was applied, in order; empty when there is no history table. */
export async function readHistory(client: SqlClient): Promise<AppliedMigration[]> {
  const { rows: found } = await client.query(`SELECT to_regclass('app_schema_migrations') IS NOT NULL AS found`)
  if (!z.object({ found: z.boolean() }).parse(found[0]).found) return []
  const { rows } = await client.query(`
    SELECT
      version,
      name,
      checksum,
      engine
    FROM app_schema_migrations
    ORDER BY version
  `)
  return z.array(historyRow).parse(rows)
}

/**
 * What of the program's migrations is still to be applied.
 * @throws AppError `schema_newer` when the database knows a later migration than the program; `schema_changed` when an
 * applied file was changed, is gone, or a file was put in below an applied one.
 */
export function pendingMigrations(migrations: readonly Migration[], history: readonly AppliedMigration[]): Migration[] {
  const expected = migrations.at(-1)?.version ?? '0000'
  const newest = history.at(-1)
  if (newest !== undefined && newest.version > expected) {
    throw new AppError(
      'schema_newer',
      `the schema is newer than this program: at ${newest.version}, the program knows ${expected}`,
      {
        hint: 'run the release that migrated this database, or a later one; migrations only go forward'
      }
    )
  }
  const files = new Map(migrations.map((migration) => [migration.version, migration]))
  for (const applied of history) {
    const file = files.get(applied.version)
    if (file === undefined) throw changed(`${applied.name} was applied to the database, and the file is gone`)
    if (file.checksum !== applied.checksum)
      throw changed(`${file.file} was changed after it was applied to the database`)
  }
  const done = new Set(history.map((applied) => applied.version))
  const pending = migrations.filter((migration) => !done.has(migration.version))
  const late = pending.find((migration) => newest !== undefined && migration.version < newest.version)
  if (late !== undefined) throw changed(`${late.file} was put in after ${newest?.name} had been applied`)
  return pending
}

function changed(message: string): AppError {
  return new AppError('schema_changed', message, {
    hint: 'restore the migrations as they were released, and make the change in a new file with the next number'
  })
}

/** Compares a database with the program's migrations; changes nothing. */
export async function schemaState(client: SqlClient, folder = migrationsFolder()): Promise<SchemaState> {
  const migrations = await readMigrations(folder)
  const history = await readHistory(client)
  const newest = history.at(-1)
  const base = {
    version: newest?.version ?? null,
    expected: migrations.at(-1)?.version ?? '0000',
    engine: newest?.engine ?? null
  }
  if (newest === undefined) return { ...base, state: 'missing' }
  try {
    return { ...base, state: pendingMigrations(migrations, history).length === 0 ? 'current' : 'behind' }
  } catch (error) {
    if (error instanceof AppError && error.code === 'schema_newer') return { ...base, state: 'newer' }
    if (error instanceof AppError && error.code === 'schema_changed') return { ...base, state: 'changed' }
    throw error
  }
}
