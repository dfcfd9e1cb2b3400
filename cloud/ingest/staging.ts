// The slower way into the table, for batches with readings that are there already: COPY into a temporary table, then
// INSERT … ON CONFLICT DO NOTHING, then duplicates told from conflicts.
//
// Each staged row takes its id from the readings' sequence, so the row that is stored under its key is this one exactly
// when it has this id. That also holds for two rows of one batch with one key, and in compressed chunks.
import type { Client } from '../database.ts'
import { copyIn, encodeRows } from './copy.ts'
import type { RowRefusal, Rows } from './rows.ts'
import { conflictWith } from './sift.ts'

const CREATE = `
  CREATE TEMPORARY TABLE IF NOT EXISTS millrace_staging (
    ordinal integer NOT NULL,
    timestamp timestamptz NOT NULL,
    sensor_id text NOT NULL,
    value double precision,
    value_text text,
    quality smallint NOT NULL,
    received_at timestamptz NOT NULL,
    id bigint NOT NULL DEFAULT nextval('sensor_readings_id_seq')
  ) ON COMMIT DELETE ROWS`

const CLEAR = 'TRUNCATE pg_temp.millrace_staging;'

const COPY = `
  COPY pg_temp.millrace_staging (ordinal, timestamp, sensor_id, value, value_text, quality, received_at)
    FROM STDIN (FORMAT binary)`

/** What isn't in the table as a row of ours. */
const MERGE = `
  WITH stored AS (
    INSERT INTO sensor_readings (id, timestamp, sensor_id, value, value_text, quality, received_at)
    SELECT id, timestamp, sensor_id, value, value_text, quality, received_at
    FROM pg_temp.millrace_staging
    ORDER BY ordinal
    ON CONFLICT DO NOTHING
    RETURNING id
  )
  SELECT staged.ordinal
  FROM pg_temp.millrace_staging AS staged
  WHERE staged.id NOT IN (SELECT id FROM stored)
  ORDER BY staged.ordinal`

/** Beside each row that was not stored the one that is, looked up one by one: the key is the only index. */
const COMPARE = `
  SELECT
    staged.ordinal,
    kept.value,
    kept.value_text,
    kept.quality,
    (kept.value, kept.value_text, kept.quality)
      IS DISTINCT FROM (staged.value, staged.value_text, staged.quality) AS differs
  FROM pg_temp.millrace_staging AS staged
  CROSS JOIN LATERAL (
    SELECT readings.value, readings.value_text, readings.quality
    FROM sensor_readings AS readings
    WHERE readings.timestamp = staged.timestamp AND readings.sensor_id = staged.sensor_id
    LIMIT 1
  ) AS kept
  WHERE staged.ordinal = ANY($1::integer[])`

export type StagedResult = {
  duplicates: number[]
  conflicts: { row: number; refusal: RowRefusal }[]
}

type Compared = { ordinal: number; value: number | null; value_text: string | null; quality: number; differs: boolean }

/**
 * Stores the rows of `order`, as far as their keys are free. The caller holds the savepoint. `clear`: the transaction has
 * staged other rows before.
 * @throws the server's error; nothing is decided then
 */
export async function storeStaged(
  client: Client,
  rows: Rows,
  order: Uint32Array,
  options: { clear?: boolean; meanwhile?: () => void } = {}
): Promise<StagedResult> {
  await client.query(CREATE)
  await copyIn(
    client,
    options.clear ? CLEAR + COPY : COPY,
    encodeRows(rows, order, { ordinals: true }),
    options.meanwhile
  )
  const merged = await client.query<{ ordinal: number }>({ name: 'merge_staged', text: MERGE, values: [] })
  const result: StagedResult = { duplicates: [], conflicts: [] }
  if (merged.rows.length === 0) return result
  const left = merged.rows.map((row) => row.ordinal)
  const compared = await client.query<Compared>({ name: 'compare_staged', text: COMPARE, values: [left] })
  if (compared.rows.length !== left.length) {
    throw new Error(
      `${left.length} readings were neither stored nor in the table, ${compared.rows.length} of them were found`
    )
  }
  for (const kept of compared.rows) {
    const row = order[kept.ordinal] ?? 0
    if (!kept.differs) {
      result.duplicates.push(row)
      continue
    }
    result.conflicts.push({ row, refusal: conflictWith(kept) })
  }
  return result
}
