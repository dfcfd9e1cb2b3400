// A migrated database with writers on it.
import pg from 'pg'
import { openDatabase } from '../../cloud/database.ts'
import type { Database } from '../../cloud/database.ts'
import { detectEngine } from '../../cloud/engine.ts'
import type { Engine } from '../../cloud/engine.ts'
import type { Arrived, Outcome } from '../../cloud/ingest/arrival.ts'
import { createWriter } from '../../cloud/ingest/write.ts'
import type { Writer } from '../../cloud/ingest/write.ts'
import { migrate } from '../../cloud/migrate.ts'
import { silentLog } from '../../shared/log.ts'
import { BASE_MS } from './batches.ts'
import { testDatabase } from './postgres.ts'

type Test = { teardown(done: () => Promise<void> | void): void }
type Row = Record<string, unknown>

/** A day after the batches of the tests. */
export const NOW_MS = BASE_MS + 86_400_000
export const RETENTION_DAYS = 180

export type IngestBench = {
  url: string
  database: Database
  engine: Engine
  /** The test's own connection, with the rights of the tables' owner. */
  sql<Result extends Row = Row>(text: string, values?: unknown[]): Promise<Result[]>
  /** A writer with connections of its own, closed when the test ends. `url`: as another role. */
  writer(options?: {
    url?: string
    now?: () => number
    retentionDays?: number
    ownerTtlMs?: number
    sightingsEveryMs?: number
  }): Writer
}

export async function openIngest(t: Test): Promise<IngestBench> {
  const { url } = await testDatabase(t)
  const log = silentLog()
  const database = openDatabase({ url, log, applicationName: 'test' })
  t.teardown(() => database.close())
  await database.withClient((client) =>
    migrate({ client, log, policies: { retentionDays: RETENTION_DAYS, compressAfterDays: 7 } })
  )
  const engine = await database.withClient((client) => detectEngine(client))
  return {
    url,
    database,
    engine,
    async sql(text, values) {
      return (await database.withClient((client) => client.query(text, values))).rows
    },
    writer(options = {}) {
      const own = openDatabase({ url: options.url ?? url, log, applicationName: 'writer', max: 4 })
      const writer = createWriter({
        database: own,
        engine,
        retentionDays: options.retentionDays ?? RETENTION_DAYS,
        now: options.now ?? (() => NOW_MS + performance.now()),
        log,
        retry: { baseMs: 10, capMs: 100 },
        ...(options.ownerTtlMs === undefined ? {} : { ownerTtlMs: options.ownerTtlMs }),
        ...(options.sightingsEveryMs === undefined ? {} : { sightingsEveryMs: options.sightingsEveryMs })
      })
      t.teardown(async () => {
        await writer.close()
        await own.close()
      })
      return writer
    }
  }
}

/** Writes them one call after another without waiting, as they come off the wire. */
export function writeAll(writer: Writer, batches: readonly { arrived: Arrived }[]): Promise<Outcome[]> {
  return Promise.all(batches.map(({ arrived }) => writer.write([arrived]))).then((results) => results.flat())
}

/** Rows of sums that don't balance, or differ from their ledger rows; none when all is well. */
export async function unbalanced(bench: IngestBench): Promise<Row[]> {
  return bench.sql(`
    SELECT * FROM (
      SELECT gateway_id, epoch, lane, batches, records, stored, duplicates, dead_lettered, evicted, last_batch, last_seq
      FROM ingest_lanes
      EXCEPT
      SELECT
        gateway_id, epoch, lane, count(*), sum(records), sum(stored), sum(duplicates), sum(dead_lettered), sum(evicted),
        max(batch), max(last_seq)
      FROM ingest_batches
      GROUP BY gateway_id, epoch, lane
    ) AS lanes
    UNION ALL
    SELECT gateway_id, epoch, lane, batch, records, stored, duplicates, dead_lettered, evicted, 0, 0
    FROM ingest_batches
    WHERE records <> stored + duplicates + dead_lettered + evicted`)
}

/** A connection that stays open until the test ends, for locks and transactions of its own. */
export async function openSession(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  t.teardown(() => client.end().catch(() => undefined))
  return client
}
