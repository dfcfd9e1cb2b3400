// `npm run migrate`: one run of the migrations. Exit status 0 when the schema is current and the policies are set.
import { pino } from 'pino'
import { z } from 'zod'
import { AppError, messageOf } from '../shared/errors.ts'
import { readConfig } from '../shared/config.ts'
import type { Log, LogLevel } from '../shared/log.ts'
import { pause } from '../shared/retry.ts'
import { migrateConfig } from './config.ts'
import { openDatabase } from './database.ts'
import type { Client, Database, Engine } from './database.ts'
import { migrate } from './migrate.ts'
import type { MigrationReport } from './migrate.ts'
import { sqlstateOf } from './sqlstate.ts'

/** How long an unreachable server is waited for: in containers it starts beside us. */
const PATIENCE_MS = 60_000
const RETRY_MS = 2_000

const logLine = z.object({ msg: z.string(), file: z.string().optional() })

/** A log of plain lines for a person at a terminal: the phrase, and the file that it is about. */
function plainLog(level: LogLevel): Log {
  const destination = {
    write(json: string) {
      const { msg, file } = logLine.parse(JSON.parse(json))
      process.stdout.write(`${file === undefined ? msg : `${msg}: ${file}`}\n`)
    }
  }
  return pino({ level, base: null, timestamp: false }, destination)
}

/** A wrong password or database doesn't mend itself while we wait. */
function worthWaiting(error: unknown): boolean {
  if (!(error instanceof AppError) || error.code !== 'database_unreachable') return false
  const state = sqlstateOf(error)
  return state === null || state.startsWith('08') || state.startsWith('53') || state.startsWith('57')
}

/** Lends a connection to `work`, once the server can be reached. */
async function whenReachable<T>(database: Database, log: Log, work: (client: Client) => Promise<T>): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS
  for (;;) {
    try {
      return await database.withClient(work)
    } catch (error) {
      if (!worthWaiting(error) || performance.now() + RETRY_MS > deadline) throw error
      const leftS = Math.round((deadline - performance.now()) / 1_000)
      log.warn(`${messageOf(error)}; trying for another ${leftS} s`)
      await pause(RETRY_MS)
    }
  }
}

function engineLine({ kind, serverVersion, timescaleVersion }: Engine): string {
  if (timescaleVersion === null) return `PostgreSQL ${serverVersion} without TimescaleDB`
  const use = { timescale: 'all features', apache: 'Apache edition', plain: 'not used' }[kind]
  return `TimescaleDB ${timescaleVersion} (${use}) on PostgreSQL ${serverVersion}`
}

function report({ engine, version, applied, policies }: MigrationReport, log: Log): void {
  log.info(`engine: ${engineLine(engine)}`)
  for (const policy of policies) log.info(`policy set: ${policy}`)
  log.info(applied.length === 0 ? `the schema is current, at ${version}` : `the schema is now at ${version}`)
}

async function main(): Promise<void> {
  const config = readConfig(migrateConfig, process.env)
  const log = plainLog(config.LOG_LEVEL)
  const database = openDatabase({
    url: config.DATABASE_URL,
    max: 1,
    log,
    applicationName: 'millrace-migrate',
    statementTimeoutMs: 0
  })
  try {
    log.info(`migrating ${database.address}`)
    const policies = { retentionDays: config.RETENTION_DAYS, compressAfterDays: config.COMPRESS_AFTER_DAYS }
    report(
      await whenReachable(database, log, (client) =>
        migrate({ client, log, policies, engine: config.DATABASE_ENGINE })
      ),
      log
    )
  } finally {
    await database.close()
  }
}

try {
  await main()
} catch (error) {
  const hint = error instanceof AppError && error.hint !== null ? `; ${error.hint}` : ''
  process.stderr.write(`migrate failed: ${messageOf(error)}${hint}\n`)
  process.exitCode = 1
}
