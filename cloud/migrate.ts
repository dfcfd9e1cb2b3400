// Brings a database to the program's schema.
//
// Guarantees: one migrator works at a time, the others wait and find the work done; a file is applied once, with its
// record in the same transaction; a file that was applied is never applied again, and one that was changed afterwards
// stops everything; a schema that is newer than the program is left alone; the engine for which the tables were made
// stays. Killed at any moment, it goes on where it was at the next start.
import { z } from 'zod'
import { AppError, messageOf } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { pause } from '../shared/retry.ts'
import type { SqlClient } from './database.ts'
import { detectEngine, prepareEngine } from './engine.ts'
import type { Engine, EngineChoice, EngineKind } from './engine.ts'
import { migrationsFolder, readMigrations } from './migrations.ts'
import type { Migration } from './migrations.ts'
import { applyPolicies } from './policies.ts'
import type { Policies } from './policies.ts'
import { pendingMigrations, readHistory } from './schema.ts'
import type { AppliedMigration } from './schema.ts'
import { sqlstateOf } from './sqlstate.ts'

export { schemaState } from './schema.ts'
export type { SchemaState } from './schema.ts'
export type { Policies } from './policies.ts'

export type MigrationReport = {
  /** The kind is the one that the tables were made for. */
  engine: Engine
  /** The schema's version now. */
  version: string | null
  /** Files that ran, and files recorded as not for this engine. */
  applied: string[]
  skipped: string[]
  /** Policies that were changed. */
  policies: string[]
}

/** Names our advisory lock; the lock is the database's, so programs in other databases don't meet. */
const LOCK = `hashtextextended('millrace.migrate', 0)`
const LOCK_POLL_MS = 100
const LOCK_WAIT_MS = 600_000

/** A table in use yields its lock at some time; the tries are apart by the session's lock_timeout. */
const LOCKED_TRIES = 5
const LOCKED_STATES = ['55P03', '40P01']

/** insufficient_privilege */
const NOT_ALLOWED = '42501'

const HISTORY = `
  CREATE TABLE IF NOT EXISTS app_schema_migrations (
    version text NOT NULL PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    engine text NOT NULL,
    skipped boolean NOT NULL DEFAULT false
  );
  COMMENT ON TABLE app_schema_migrations IS
    'One row per migration file of Millrace that this database has had. Written by npm run migrate only.';
  COMMENT ON COLUMN app_schema_migrations.checksum IS
    'SHA-256 of the file, hex: a file that was applied must not change.';
  COMMENT ON COLUMN app_schema_migrations.engine IS
    'What the database was then: timescale, apache or plain.';
  COMMENT ON COLUMN app_schema_migrations.skipped IS
    'True when the file is not for this engine and was not run.';
`

/**
 * Applies what is missing, then sets the policies. The connection must be outside any transaction, and is left so; its
 * pool sets how long one statement may take: `statementTimeoutMs` 0 where tables may be large.
 * @throws AppError `schema_changed`, `schema_newer`, `database_unsupported`; Error naming the file that failed,
 * caused by the server's, with all files before it applied.
 */
export async function migrate(options: {
  client: SqlClient
  log: Log
  policies: Policies
  folder?: string
  engine?: EngineChoice
}): Promise<MigrationReport> {
  const { client, log } = options
  const migrations = await readMigrations(options.folder ?? migrationsFolder())
  await lock(client, log)
  try {
    await client.query(`SET lock_timeout = '10s'`)
    const history = await readHistory(client)
    const pending = pendingMigrations(migrations, history)
    const engine = await engineFor(client, history, options.engine ?? 'auto')
    await createHistory(client)
    const report: MigrationReport = {
      engine,
      version: history.at(-1)?.version ?? null,
      applied: [],
      skipped: [],
      policies: []
    }
    for (const migration of pending) {
      const needed = migration.engines.includes(engine.kind)
      await applyUnlocked(client, log, migration, engine.kind, needed)
      report.version = migration.version
      if (needed) report.applied.push(migration.file)
      else report.skipped.push(migration.file)
      log.info({ file: migration.file }, needed ? 'migration applied' : 'migration not for this engine')
    }
    report.policies = await applyPolicies(client, engine.kind, options.policies)
    return report
  } finally {
    await unlock(client, log)
  }
}

/**
 * Waits by asking again: a statement that waits would hold a snapshot, and CREATE INDEX CONCURRENTLY in the migrator
 * that has the lock would wait for that.
 */
async function lock(client: SqlClient, log: Log): Promise<void> {
  for (let waitedMs = 0; waitedMs < LOCK_WAIT_MS; waitedMs += LOCK_POLL_MS) {
    const { rows } = await client.query(`SELECT pg_try_advisory_lock(${LOCK}) AS locked`)
    if (z.object({ locked: z.boolean() }).parse(rows[0]).locked) return
    if (waitedMs === 0) log.info('another migration is running, waiting for it')
    await pause(LOCK_POLL_MS)
  }
  throw new Error(`another migration has been running for ${LOCK_WAIT_MS / 1_000} s`)
}

/** With the connection the lock is gone as well, so a failure here changes nothing. */
async function unlock(client: SqlClient, log: Log): Promise<void> {
  try {
    await client.query('RESET lock_timeout')
    await client.query(`SELECT pg_advisory_unlock(${LOCK})`)
  } catch (error) {
    log.debug({ err: error }, 'the connection is lost, and the migration lock with it')
  }
}

/**
 * The engine is decided at the first migration. Apache and plain have the same tables and may take each other's place.
 * @throws AppError `database_unsupported`
 */
async function engineFor(
  client: SqlClient,
  history: readonly AppliedMigration[],
  choice: EngineChoice
): Promise<Engine> {
  const recorded = history.at(-1)?.engine
  if (recorded === undefined) return prepareEngine(client, choice)
  const found = await detectEngine(client)
  if ((found.kind === 'timescale') === (recorded === 'timescale')) return found
  if (choice === 'plain' && recorded !== 'timescale') return { ...found, kind: 'plain' }
  throw new AppError(
    'database_unsupported',
    `the tables were made for the engine ${recorded}, and the database is now ${found.kind}`,
    {
      hint:
        recorded === 'timescale'
          ? 'create the extension timescaledb here again, with timescaledb.license = timescale'
          : 'set DATABASE_ENGINE=plain to go on with these tables, or migrate a new database and copy the rows over'
    }
  )
}

/** @throws AppError `database_unsupported` when the login may make nothing here. */
async function createHistory(client: SqlClient): Promise<void> {
  try {
    await client.query(HISTORY)
  } catch (error) {
    if (sqlstateOf(error) !== NOT_ALLOWED) throw error
    throw new AppError('database_unsupported', `the login may not make tables here: ${messageOf(error)}`, {
      hint: 'migrate with the login that owns the database, or grant it CREATE on the schema',
      cause: error
    })
  }
}

async function applyUnlocked(
  client: SqlClient,
  log: Log,
  migration: Migration,
  engine: EngineKind,
  needed: boolean
): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await apply(client, migration, engine, needed)
    } catch (error) {
      if (tries === LOCKED_TRIES || !LOCKED_STATES.includes(sqlstateOf(error) ?? '')) {
        throw new Error(`${migration.file} failed: ${messageOf(error)}`, { cause: error })
      }
      log.warn({ file: migration.file, tries }, 'a table is in use, trying again')
    }
  }
}

async function apply(client: SqlClient, migration: Migration, engine: EngineKind, needed: boolean): Promise<void> {
  if (needed && !migration.inTransaction) await client.query(migration.sql)
  await client.query('BEGIN')
  try {
    if (needed && migration.inTransaction) await client.query(migration.sql)
    await client.query(
      `
        INSERT INTO app_schema_migrations (version, name, checksum, engine, skipped)
        VALUES ($1, $2, $3, $4, $5)
      `,
      [migration.version, migration.file, migration.checksum, engine, !needed]
    )
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  }
}
