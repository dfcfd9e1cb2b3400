// Which rows have a key that is taken, before a COPY that would fail on them: one join with the table, a fraction of what
// staging the rows would cost.
//
// Not guaranteed: that a free key stays free; another session may take it before the COPY.
import { KIND_NUMBER, KIND_TEXT } from '../../shared/batch/columns.ts'
import type { Client } from '../database.ts'
import { instantText, POSTGRES_EPOCH_US } from './instant.ts'
import type { RowRefusal, Rows } from './rows.ts'

/**
 * A plain join, so that the planner can choose between reading the range and probing for each key; the bounds tell it what
 * the range holds, and which partitions and chunks can be left out.
 */
const FIND = `
  SELECT wanted.place::integer AS place, kept.value, kept.value_text, kept.quality
  FROM unnest($1::timestamptz[], $2::text[]) WITH ORDINALITY AS wanted (timestamp, sensor_id, place)
  JOIN sensor_readings AS kept
    ON kept.timestamp = wanted.timestamp
    AND kept.sensor_id = wanted.sensor_id
    AND kept.timestamp BETWEEN $3 AND $4`

export type Sifted = {
  /** What is to be copied, in the same order. */
  free: Uint32Array
  duplicates: number[]
  conflicts: { row: number; refusal: RowRefusal }[]
}

type Kept = { value: number | null; value_text: string | null; quality: number }
type Found = Kept & { place: number }

export async function sift(client: Client, rows: Rows, order: Uint32Array): Promise<Sifted> {
  const { timestampUs } = rows
  const keys = keysOf(rows, order)
  // Without a name: planned anew each time, for these bounds.
  const { rows: found } = await client.query<Found>(FIND, [
    keys.timestamps,
    keys.sensors,
    instantText(timestampUs[order[0] ?? 0] ?? 0),
    instantText(timestampUs[order[order.length - 1] ?? 0] ?? 0)
  ])
  const taken = new Map<number, Kept>()
  for (const { place, ...kept } of found) taken.set(place - 1, kept)
  const result: Sifted = { free: new Uint32Array(order.length), duplicates: [], conflicts: [] }
  let free = 0
  for (let place = 0; place < order.length; place++) {
    const row = order[place] ?? 0
    const first = keys.repeats.get(place) ?? place
    const kept = taken.get(first) ?? (first === place ? null : keptOf(rows, order[first] ?? 0))
    if (kept === null) result.free[free++] = row
    else if (same(kept, keptOf(rows, row))) result.duplicates.push(row)
    else result.conflicts.push({ row, refusal: conflictWith(kept) })
  }
  result.free = result.free.subarray(0, free)
  return result
}

export function conflictWith(kept: Kept): RowRefusal {
  const stored = kept.value_text === null ? String(kept.value) : JSON.stringify(kept.value_text)
  const detail = `stored for this sensor and time: ${stored}, quality ${kept.quality}`
  return { reason: 'conflict', detail, sqlstate: null }
}

function keptOf(rows: Rows, row: number): Kept {
  return {
    value: rows.kind[row] === KIND_NUMBER ? (rows.number[row] ?? 0) : null,
    value_text: rows.kind[row] === KIND_TEXT ? (rows.texts.get(row) ?? '') : null,
    quality: rows.quality[row] ?? 0
  }
}

function same(a: Kept, b: Kept): boolean {
  return a.value === b.value && a.value_text === b.value_text && a.quality === b.quality
}

const ARRAY_HEADER_BYTES = 20
const TIMESTAMPTZ_OID = 1184
const TEXT_OID = 25
const TWO_32 = 2 ** 32

/**
 * The keys as two arrays in PostgreSQL's binary form (array_recv: dimensions, nulls, element's oid, length, lower bound,
 * then each element with its length), and the places whose key is that of an earlier place. Equal keys stand together.
 */
function keysOf(
  { sensors, sensor, timestampUs }: Rows,
  order: Uint32Array
): { timestamps: Buffer; sensors: Buffer; repeats: Map<number, number> } {
  const repeats = new Map<number, number>()
  let idBytes = 0
  for (const row of order) idBytes += sensors[sensor[row] ?? 0]?.bytes.length ?? 0
  const timestamps = Buffer.allocUnsafe(ARRAY_HEADER_BYTES + 12 * order.length)
  const ids = Buffer.allocUnsafe(ARRAY_HEADER_BYTES + 4 * order.length + idBytes)
  for (const [array, oid] of [
    [timestamps, TIMESTAMPTZ_OID],
    [ids, TEXT_OID]
  ] as const) {
    for (const [index, word] of [1, 0, oid, order.length, 1].entries()) array.writeInt32BE(word, 4 * index)
  }
  let at = ARRAY_HEADER_BYTES
  let first = 0
  for (let place = 0; place < order.length; place++) {
    const row = order[place] ?? 0
    const own = sensors[sensor[row] ?? 0]
    const before = order[first] ?? 0
    if (place > 0) {
      if (timestampUs[row] === timestampUs[before] && own?.rank === sensors[sensor[before] ?? 0]?.rank) {
        repeats.set(place, first)
      } else first = place
    }
    const since = (timestampUs[row] ?? 0) - POSTGRES_EPOCH_US
    const high = Math.floor(since / TWO_32)
    const from = ARRAY_HEADER_BYTES + 12 * place
    timestamps.writeInt32BE(8, from)
    timestamps.writeInt32BE(high, from + 4)
    timestamps.writeUInt32BE(since - high * TWO_32, from + 8)
    const id = own?.bytes
    const length = id?.length ?? 0
    ids.writeInt32BE(length, at)
    if (id !== undefined) ids.set(id, at + 4)
    at += 4 + length
  }
  return { timestamps, sensors: ids, repeats }
}
