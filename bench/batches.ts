// Sealed batches as an edge makes them, and the same rows in COPY's form, for the writer and its peer.
import { randomBytes } from 'node:crypto'
import { encodeRows } from '../cloud/ingest/copy.ts'
import { joinRows, orderRows } from '../cloud/ingest/rows.ts'
import { createColumnBuilder, valueAt } from '../shared/batch/columns.ts'
import type { ReadingColumns } from '../shared/batch/columns.ts'
import { NO_PREDECESSOR, sealBatch } from '../shared/batch/envelope.ts'
import { createSignals, topicOf } from './load/messages.ts'
import { createRandom } from './oracle/random.ts'

export const GATEWAY = 'bench'
const GOOD = 192

/** Sensors at 1 Hz in turn, two decimals, received 1 to 4 ms after their time; `count` readings ending about `endMs`. */
export function createReadings(options: {
  count: number
  sensors: number
  endMs: number
  seed: number
  /** So much later than its moment in the second may a sensor's time be. */
  jitterMs?: number
  /** How far a value may go in a second. */
  step?: number
}): ReadingColumns {
  const { count, sensors, endMs, seed } = options
  const jitterMs = options.jitterMs ?? 0
  const random = createRandom(seed)
  const next = createSignals(sensors, seed, options.step)
  const known = Array.from({ length: sensors }, (_, index) => ({ id: topicOf(index, 0), type: null, unit: '°C' }))
  const builder = createColumnBuilder(count)
  const firstMs = endMs - Math.ceil(count / sensors) * 1_000
  for (let index = 0; index < count; index++) {
    const sensor = known[index % sensors]
    if (sensor === undefined) throw new Error('there are no sensors')
    const momentMs = Math.floor(((index % sensors) * 1_000) / sensors)
    const timestampMs = firstMs + Math.floor(index / sensors) * 1_000 + momentMs + random.between(0, jitterMs)
    builder.add({
      sensor,
      timestampUs: timestampMs * 1_000,
      receivedUs: (timestampMs + random.between(1, 4)) * 1_000,
      quality: GOOD,
      value: next(index % sensors)
    })
  }
  return builder.finish()
}

/** The readings whose index `keep` names. */
export function rowsOf(columns: ReadingColumns, keep: (index: number) => boolean): ReadingColumns {
  const builder = createColumnBuilder()
  for (let index = 0; index < columns.count; index++) {
    const sensor = columns.sensors[columns.sensor[index] ?? 0]
    if (sensor === undefined || !keep(index)) continue
    builder.add({
      sensor,
      timestampUs: columns.timestampUs[index] ?? 0,
      receivedUs: columns.receivedUs[index] ?? 0,
      quality: columns.quality[index] ?? 0,
      value: valueAt(columns, index)
    })
  }
  return builder.finish()
}

/** A chain of full batches. */
export function sealAll(columns: ReadingColumns, records: number): Uint8Array[] {
  const epoch = randomBytes(16).toString('hex')
  const wires: Uint8Array[] = []
  let predecessor = NO_PREDECESSOR
  for (let from = 0; from < columns.count; from += records) {
    const to = Math.min(columns.count, from + records)
    const sealed = sealBatch(
      {
        gateway: GATEWAY,
        epoch,
        lane: 'readings',
        batch: wires.length + 1,
        firstSeq: from + 1,
        lastSeq: to,
        records: to - from
      },
      { kind: 'readings', readings: rowsOf(columns, (index) => index >= from && index < to), rejects: [] },
      predecessor
    )
    predecessor = sealed.digest
    wires.push(sealed.wire)
  }
  return wires
}

/** The rows for one `COPY sensor_readings (timestamp, sensor_id, value, value_text, quality, received_at)`, binary. */
export function copyFile(columns: ReadingColumns): Buffer {
  const rows = joinRows([{ gateway: GATEWAY, columns }])
  return encodeRows(
    rows,
    orderRows(rows, () => true),
    { ordinals: false }
  )
}
