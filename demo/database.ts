// The demo's database: the one that DATABASE_URL names, else an embedded server that is started again when it dies.
import { rmSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import type { migrateConfig } from '../cloud/config.ts'
import { openDatabase } from '../cloud/database.ts'
import type { Engine } from '../cloud/database.ts'
import { migrate } from '../cloud/migrate.ts'
import { AppError, messageOf } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { pause } from '../shared/retry.ts'
import { isRunning } from './postgres-process.ts'
import { startPostgres } from './postgres.ts'
import type { PostgresServer } from './postgres.ts'

const LOOK_EVERY_MS = 500
const COUNT_TIMEOUT_MS = 3_000
/** A database that hangs holds up neither the screen nor the stop. */
const PATIENCE_MS = 1_000

export type DemoServer = {
  url: string
  /** Where its files really lie. */
  folder: string
  stop(): Promise<void>
}

/** `onRestart` is told when the server has died and is back. */
export async function startServer(options: { folder: string; log: Log; onRestart: () => void }): Promise<DemoServer> {
  const { log } = options
  let server: PostgresServer = await startPostgres({ dataDir: options.folder, log })
  let restarting: Promise<void> | null = null

  async function restart({ dataDir, port }: PostgresServer): Promise<void> {
    log.error('the database server died, starting it again')
    try {
      server = await startPostgres({ dataDir, port, log })
      options.onRestart()
    } catch (error) {
      log.error({ err: error }, 'the database server can’t be started')
    } finally {
      restarting = null
    }
  }

  const watch = setInterval(() => {
    if (!isRunning(server.pid)) restarting ??= restart(server)
  }, LOOK_EVERY_MS)
  return {
    url: server.url,
    folder: server.dataDir,
    async stop() {
      clearInterval(watch)
      await restarting
      await server.stop('fast')
    }
  }
}

/** The first try may meet a server that is still starting; more isn't waited for. */
export async function migrateDatabase(config: z.output<typeof migrateConfig>, log: Log): Promise<Engine> {
  const database = openDatabase({
    url: config.DATABASE_URL,
    max: 1,
    log,
    applicationName: 'millrace-demo-migrate',
    statementTimeoutMs: 0
  })
  try {
    const policies = { retentionDays: config.RETENTION_DAYS, compressAfterDays: config.COMPRESS_AFTER_DAYS }
    const report = await database.withClient((client) =>
      migrate({ client, log, policies, engine: config.DATABASE_ENGINE })
    )
    return report.engine
  } finally {
    await database.close()
  }
}

/** Where `npm run rows` and `npm run tasks` find the database while the demo runs; readable by its owner only. */
export function leaveUrl(file: string, url: string): { remove(): void } {
  try {
    rmSync(file, { force: true })
    writeFileSync(file, `${url}\n`, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    throw new AppError('folder_unwritable', `can't write ${file}: ${messageOf(error)}`, {
      hint: 'correct the rights of that folder, or free space',
      cause: error
    })
  }
  return { remove: () => rmSync(file, { force: true }) }
}

export type RowCounter = {
  /** Readings stored so far by the ledger's sums, which is cheap at any size; null while the database can't be asked. */
  count(): Promise<number | null>
  newest(): Promise<{ sensor: string; value: number | string | null; unit: string | null } | null>
  close(): Promise<void>
}

const storedRow = z.object({ stored: z.coerce.number() })
const newestRow = z.object({
  sensor_id: z.string(),
  value: z.number().nullable(),
  value_text: z.string().nullable(),
  unit: z.string().nullable()
})

export function openRowCounter(url: string, log: Log): RowCounter {
  const database = openDatabase({
    url,
    max: 1,
    log,
    applicationName: 'millrace-demo',
    statementTimeoutMs: COUNT_TIMEOUT_MS
  })

  /** The first row; null without an answer in time. */
  async function ask(sql: string): Promise<unknown> {
    const inTime = new AbortController()
    const late = pause(PATIENCE_MS, inTime.signal).then(() => null)
    return Promise.race([query(sql), late]).finally(() => inTime.abort())
  }

  async function query(sql: string): Promise<unknown> {
    try {
      const { rows } = await database.withClient((client) => client.query(sql))
      return rows[0]
    } catch (error) {
      log.debug({ reason: messageOf(error) }, 'the database could not be asked')
      return null
    }
  }

  return {
    async count() {
      const row = storedRow.safeParse(
        await ask("SELECT coalesce(sum(stored), 0) AS stored FROM ingest_lanes WHERE lane = 'readings'")
      )
      return row.success ? row.data.stored : null
    },
    async newest() {
      const row = newestRow.safeParse(
        await ask(`
          SELECT
            readings.sensor_id,
            value,
            value_text,
            unit
          FROM sensor_readings AS readings
          LEFT JOIN sensors USING (sensor_id)
          ORDER BY readings.timestamp DESC
          LIMIT 1
        `)
      )
      if (!row.success) return null
      return { sensor: row.data.sensor_id, value: row.data.value ?? row.data.value_text, unit: row.data.unit }
    },
    close: () => Promise.race([database.close(), pause(PATIENCE_MS)])
  }
}
