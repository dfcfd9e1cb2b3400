// The whole line in this process: an edge, a bridge with its embedded broker, and a database of its own.
import type { Test } from 'tap'
import { openDatabase } from '../../cloud/database.ts'
import type { Database } from '../../cloud/database.ts'
import type { EdgeSettings } from '../../edge/config.ts'
import { silentLog } from '../../shared/log.ts'
import { migrateDatabase, startTestBridge, whenReady } from './bridge.ts'
import type { TestBridge } from './bridge.ts'
import { startTestEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import { testDatabase } from './postgres.ts'
import { waitFor } from './wait-for.ts'

type Teardown = Pick<Test, 'teardown'>

export type Row = { sensor_id: string; us: number; value: number | null; value_text: string | null; quality: number }

export type Store = {
  url: string
  database: Database
  /** All readings, by sensor and time. */
  rows(): Promise<Row[]>
  deadLetters(): Promise<{ reason: string; payload: Buffer; source: string }[]>
  ledger(): Promise<
    { lane: string; batch: number; records: number; stored: number; duplicates: number; dead_lettered: number }[]
  >
}

/** A migrated database. */
export async function openStore(t: Teardown): Promise<Store> {
  const { url } = await testDatabase(t)
  await migrateDatabase(url)
  const database = openDatabase({ url, max: 2, log: silentLog(), applicationName: 'test' })
  t.teardown(() => database.close())
  async function select<Result extends object>(sql: string): Promise<Result[]> {
    return await database.withClient(async (client) => (await client.query<Result>(sql)).rows)
  }
  return {
    url,
    database,
    rows: () =>
      select(`
        SELECT sensor_id, (extract(epoch FROM timestamp) * 1000000)::bigint AS us, value, value_text, quality
        FROM sensor_readings
        ORDER BY sensor_id, timestamp`),
    deadLetters: () => select('SELECT reason, payload, source FROM dead_letters ORDER BY created_at'),
    ledger: () =>
      select('SELECT lane, batch, records, stored, duplicates, dead_lettered FROM ingest_batches ORDER BY lane, batch')
  }
}

export type Line = { store: Store; bridge: TestBridge; edge: TestEdge }

export async function startLine(t: Teardown, overrides: Partial<EdgeSettings> = {}): Promise<Line> {
  const store = await openStore(t)
  const bridge = await startTestBridge(t, { databaseUrl: store.url })
  const edge = await startTestEdge(t, { uplinkUrl: bridge.brokerUrl, ...overrides })
  await whenReady(bridge)
  return { store, bridge, edge }
}

/** Waits until nothing is left in the edge's buffer. */
export async function drained(edge: TestEdge, timeoutMs = 20_000): Promise<void> {
  await edge.when('the buffer is empty', ({ sums }) => sums.every(({ pending }) => pending === 0), timeoutMs)
}

/** Every `count` sensors of `plant` once a second from `fromMs`, values of two decimals, as JSON with a time of its own. */
export function readings(
  count: number,
  perSensor: number,
  fromMs = 1_700_000_000_000
): { topic: string; payload: string }[] {
  return Array.from({ length: count * perSensor }, (_unused, index) => {
    const second = Math.floor(index / count)
    return {
      topic: `plant/line-1/press-${index % count}/temperature`,
      payload: JSON.stringify({ value: ((index * 7) % 1_000) / 100, timestamp: fromMs + second * 1_000 })
    }
  })
}

/** All rows of the store, once there are `count`. */
export function whenRows(store: Store, count: number, timeoutMs = 20_000): Promise<Row[]> {
  return waitFor(
    `${count} rows`,
    async () => {
      const rows = await store.rows()
      return rows.length >= count ? rows : null
    },
    { timeoutMs }
  )
}
