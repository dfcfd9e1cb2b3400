// The readings of all batches of a transaction as one set of columns, and the order in which they are written.
//
// Invariants: a row is known by its number, batches one after another, in seq order within each; the order of writing is
// (timestamp, sensor, row) in every bridge, so that two of them wait for each other but don't deadlock, and of two
// readings with one key the first one said is the one stored.
import { KIND_NULL, KIND_TEXT } from '../../shared/batch/columns.ts'
import type { ReadingColumns } from '../../shared/batch/columns.ts'

/** Why a record can't become a row. `sqlstate`: PostgreSQL's, when it was the one to refuse. */
export type RowRefusal = { reason: string; detail: string; sqlstate: string | null }

/** A sensor of one gateway in this transaction. */
export type RowSensor = {
  id: string
  type: string | null
  unit: string | null
  gateway: string
  /** The id in UTF-8. */
  bytes: Buffer
  /** Its place among the transaction's sensors by id. */
  rank: number
  /** Set when none of its readings can be stored. */
  refusal: RowRefusal | null
}

export type Rows = {
  count: number
  sensors: RowSensor[]
  sensor: Uint32Array
  timestampUs: Float64Array
  receivedUs: Float64Array
  quality: Int16Array
  kind: Uint8Array
  number: Float64Array
  /** By row. */
  texts: Map<number, string>
  /** First row of each batch, and one past the last row of the last. */
  starts: Uint32Array
}

type Part = { gateway: string; columns: ReadingColumns }

/** Joins the readings of the batches. A single batch's columns are used as they are. */
export function joinRows(parts: readonly Part[]): Rows {
  const starts = new Uint32Array(parts.length + 1)
  for (const [index, { columns }] of parts.entries()) starts[index + 1] = (starts[index] ?? 0) + columns.count
  const count = starts[parts.length] ?? 0
  const sensors: RowSensor[] = []
  const only = parts[0]
  if (only !== undefined && parts.length === 1) {
    const { columns, gateway } = only
    for (const sensor of columns.sensors) sensors.push(rowSensor(sensor, gateway))
    rank(sensors)
    return { ...columns, sensors, starts }
  }
  const rows: Rows = {
    count,
    sensors,
    sensor: new Uint32Array(count),
    timestampUs: new Float64Array(count),
    receivedUs: new Float64Array(count),
    quality: new Int16Array(count),
    kind: new Uint8Array(count),
    number: new Float64Array(count),
    texts: new Map(),
    starts
  }
  const known = new Map<string, number>()
  for (const [index, { columns, gateway }] of parts.entries()) {
    const start = starts[index] ?? 0
    const places = columns.sensors.map((sensor) => {
      const key = `${gateway}/${sensor.id}`
      const place = known.get(key) ?? sensors.push(rowSensor(sensor, gateway)) - 1
      known.set(key, place)
      return place
    })
    for (let row = 0; row < columns.count; row++) rows.sensor[start + row] = places[columns.sensor[row] ?? 0] ?? 0
    rows.timestampUs.set(columns.timestampUs, start)
    rows.receivedUs.set(columns.receivedUs, start)
    rows.quality.set(columns.quality, start)
    rows.kind.set(columns.kind, start)
    rows.number.set(columns.number, start)
    for (const [row, text] of columns.texts) rows.texts.set(start + row, text)
  }
  rank(sensors)
  return rows
}

function rowSensor(sensor: { id: string; type: string | null; unit: string | null }, gateway: string): RowSensor {
  return { ...sensor, gateway, bytes: Buffer.from(sensor.id), rank: 0, refusal: null }
}

function rank(sensors: readonly RowSensor[]): void {
  const sorted = sensors.toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  for (const [index, sensor] of sorted.entries()) {
    const before = sorted[index - 1]
    sensor.rank = before !== undefined && before.id === sensor.id ? before.rank : index
  }
}

/** The rows that `keep` names, in the order of writing. */
export function orderRows(rows: Rows, keep: (row: number) => boolean): Uint32Array {
  const { sensors, sensor, timestampUs } = rows
  const ranks = Uint32Array.from(sensors, (entry) => entry.rank)
  const order = new Uint32Array(rows.count)
  let length = 0
  let sorted = true
  let lastUs = Number.NEGATIVE_INFINITY
  let lastRank = 0
  for (let row = 0; row < rows.count; row++) {
    if (!keep(row)) continue
    const atUs = timestampUs[row] ?? 0
    const rank = ranks[sensor[row] ?? 0] ?? 0
    if (atUs < lastUs || (atUs === lastUs && rank < lastRank)) sorted = false
    lastUs = atUs
    lastRank = rank
    order[length++] = row
  }
  const kept = order.subarray(0, length)
  if (sorted) return kept
  return sortByKey(rows, ranks, kept) ?? sortByComparing(rows, ranks, kept)
}

/** Time, rank and row in one whole number each, which sort several times as fast; null when they don't fit. */
function sortByKey(
  { count, sensors, sensor, timestampUs }: Rows,
  ranks: Uint32Array,
  kept: Uint32Array
): Uint32Array | null {
  let firstUs = Number.POSITIVE_INFINITY
  let lastUs = Number.NEGATIVE_INFINITY
  for (const row of kept) {
    const atUs = timestampUs[row] ?? 0
    if (atUs < firstUs) firstUs = atUs
    if (atUs > lastUs) lastUs = atUs
  }
  const perInstant = sensors.length * count
  if ((lastUs - firstUs + 1) * perInstant > Number.MAX_SAFE_INTEGER) return null
  const keys = new Float64Array(kept.length)
  for (let index = 0; index < kept.length; index++) {
    const row = kept[index] ?? 0
    keys[index] = ((timestampUs[row] ?? 0) - firstUs) * perInstant + (ranks[sensor[row] ?? 0] ?? 0) * count + row
  }
  keys.sort()
  for (let index = 0; index < kept.length; index++) kept[index] = (keys[index] ?? 0) % count
  return kept
}

function sortByComparing({ sensor, timestampUs }: Rows, ranks: Uint32Array, kept: Uint32Array): Uint32Array {
  return kept.sort((a, b) => {
    const byTime = (timestampUs[a] ?? 0) - (timestampUs[b] ?? 0)
    if (byTime !== 0) return byTime
    return (ranks[sensor[a] ?? 0] ?? 0) - (ranks[sensor[b] ?? 0] ?? 0) || a - b
  })
}

/** Which batch a row is of. */
export function batchOfRow(rows: Rows, row: number): number {
  let low = 0
  let high = rows.starts.length - 2
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((rows.starts[middle] ?? 0) <= row) low = middle
    else high = middle - 1
  }
  return low
}

/** The reading as a dead letter keeps it. Times in µs since 1970. */
export function rowJson(rows: Rows, row: number): Buffer {
  const sensor = rows.sensors[rows.sensor[row] ?? 0]
  const kind = rows.kind[row]
  const value = kind === KIND_NULL ? null : kind === KIND_TEXT ? (rows.texts.get(row) ?? '') : (rows.number[row] ?? 0)
  return Buffer.from(
    JSON.stringify({
      sensor_id: sensor?.id ?? '',
      sensor_type: sensor?.type ?? null,
      unit: sensor?.unit ?? null,
      timestamp_us: rows.timestampUs[row] ?? 0,
      value,
      quality: rows.quality[row] ?? 0,
      received_us: rows.receivedUs[row] ?? 0
    })
  )
}
