// Which database engine a server is: found by asking it, never by configuration.
//
// - timescale: TimescaleDB under its own license: hypertables, compression, policies;
// - apache: TimescaleDB with Apache features only; - plain: PostgreSQL alone. Both get range partitions.
//
// `detectEngine` says what is there and changes nothing. Only the first migration may create the extension: the form
// of the tables is decided then and for good. So a server that offers TimescaleDB, but not to us, is refused with what
// an administrator has to run, instead of quietly going on without; `DATABASE_ENGINE=plain` is how to want that.
import { z } from 'zod'
import { AppError, messageOf } from '../shared/errors.ts'
import type { SqlClient } from './database.ts'
import { sqlstateOf } from './sqlstate.ts'

export const ENGINE_KINDS = ['timescale', 'apache', 'plain'] as const
export type EngineKind = (typeof ENGINE_KINDS)[number]

export type Engine = {
  kind: EngineKind
  /** PostgreSQL's, e.g. `15.18`. */
  serverVersion: string
  /** The extension's in this database; null when there is none. */
  timescaleVersion: string | null
}

/** `plain`: use nothing of TimescaleDB, whatever the server has. */
export type EngineChoice = 'auto' | 'plain'

/** Older ones are at the end of their life. */
const MIN_SERVER_MAJOR = 15
/** Older ones ended ON CONFLICT early on compressed chunks, so rows could be lost. */
const MIN_TIMESCALE = [2, 18, 1]

/** What the server says of itself. */
export type ServerFacts = {
  serverVersion: string
  /** `server_version_num`, e.g. 150018. */
  serverVersionNumber: number
  /** TimescaleDB's version in this database, null when it isn't created here. */
  installed: string | null
  /** The version that CREATE EXTENSION would give, null when the server has none. */
  available: string | null
  /** `timescaledb.license`, null when the extension isn't created here. */
  license: string | null
}

const factsRow = z.object({
  server_version: z.string(),
  server_version_number: z.coerce.number(),
  installed: z.string().nullable(),
  available: z.string().nullable()
})

export async function askServer(client: SqlClient): Promise<ServerFacts> {
  const { rows } = await client.query(`
    SELECT
      current_setting('server_version') AS server_version,
      current_setting('server_version_num') AS server_version_number,
      (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS installed,
      (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS available
  `)
  const facts = factsRow.parse(rows[0])
  return {
    serverVersion: facts.server_version.split(' ')[0] ?? facts.server_version,
    serverVersionNumber: facts.server_version_number,
    installed: facts.installed,
    available: facts.available,
    license: facts.installed === null ? null : await askLicense(client)
  }
}

/** A statement of its own: the session loads the extension, and with it the setting, at its first statement. */
async function askLicense(client: SqlClient): Promise<string | null> {
  const { rows } = await client.query(`SELECT current_setting('timescaledb.license', true) AS license`)
  return z.object({ license: z.string().nullable() }).parse(rows[0]).license
}

function isOlder(version: string, least: readonly number[]): boolean {
  const parts = version.split(/[.-]/).map(Number)
  for (const [index, floor] of least.entries()) {
    const part = parts[index] ?? 0
    if (part !== floor) return !(part > floor)
  }
  return false
}

function refuseOldTimescale(version: string): void {
  if (!isOlder(version, MIN_TIMESCALE)) return
  throw new AppError(
    'database_unsupported',
    `TimescaleDB ${version} is too old: ${MIN_TIMESCALE.join('.')} is the least`,
    {
      hint: 'upgrade it on the server, then run ALTER EXTENSION timescaledb UPDATE as the first command of a session'
    }
  )
}

/**
 * The engine that these facts make.
 * @throws AppError `database_unsupported` for PostgreSQL below 15 and TimescaleDB below 2.18.1.
 */
export function judgeEngine(facts: ServerFacts): Engine {
  const { serverVersion, installed, license } = facts
  if (facts.serverVersionNumber < MIN_SERVER_MAJOR * 10_000) {
    throw new AppError(
      'database_unsupported',
      `PostgreSQL ${serverVersion} is too old: ${MIN_SERVER_MAJOR} is the least`,
      {
        hint: `upgrade the server to PostgreSQL ${MIN_SERVER_MAJOR} or newer`
      }
    )
  }
  if (installed === null) return { kind: 'plain', serverVersion, timescaleVersion: null }
  refuseOldTimescale(installed)
  return { kind: license === 'timescale' ? 'timescale' : 'apache', serverVersion, timescaleVersion: installed }
}

/**
 * The engine of the database as it is now.
 * @throws AppError `database_unsupported`
 */
export async function detectEngine(client: SqlClient): Promise<Engine> {
  return judgeEngine(await askServer(client))
}

/**
 * The engine for a database whose tables are yet to be made: TimescaleDB is created where the server has it.
 * @throws AppError `database_unsupported`, also when the extension is there and may not be created by this login.
 */
export async function prepareEngine(client: SqlClient, choice: EngineChoice): Promise<Engine> {
  const facts = await askServer(client)
  const { installed, available } = facts
  if (choice === 'plain') return { ...judgeEngine({ ...facts, installed: null }), timescaleVersion: installed }
  if (installed !== null || available === null) return judgeEngine(facts)
  judgeEngine(facts)
  refuseOldTimescale(available)
  try {
    await client.query('CREATE EXTENSION IF NOT EXISTS timescaledb')
  } catch (error) {
    if (sqlstateOf(error) === null) throw error
    throw new AppError(
      'database_unsupported',
      `the server has TimescaleDB ${available}, but it could not be created in this database: ${messageOf(error)}`,
      {
        hint:
          'have an administrator run CREATE EXTENSION timescaledb in this database (timescaledb must be in ' +
          'shared_preload_libraries), or set DATABASE_ENGINE=plain to go without TimescaleDB for good',
        cause: error
      }
    )
  }
  return detectEngine(client)
}
