// All that can be done for a transaction before the database is asked: contents opened, times checked, readings put in
// order and into COPY's form. Runs for the next batches while PostgreSQL works on these.
//
// In two steps, since opening is the larger part: each batch by itself (`openArrived`), then all of them (`assemble`).
//
// A content that breaks the format makes its batch `undecodable`. Any other exception is a fault of this program, says
// nothing about the batch, and is thrown.
import { AppError } from '../../shared/errors.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import { openBody, sameBytes } from '../../shared/batch/envelope.ts'
import type { BatchHeader, Envelope } from '../../shared/batch/envelope.ts'
import type { Body, PlacedReject, Tombstone } from '../../shared/batch/body.ts'
import { createColumnBuilder } from '../../shared/batch/columns.ts'
import type { ReadingColumns } from '../../shared/batch/columns.ts'
import type { Incoming } from '../maintenance/inbox.ts'
import type { Arrived } from './arrival.ts'
import { encodeRows } from './copy.ts'
import { instantText } from './instant.ts'
import { batchOfRow, joinRows, orderRows } from './rows.ts'
import type { RowRefusal, Rows } from './rows.ts'

const DAY_US = 86_400_000_000
/** Readings may be early by so much. */
const MAX_AHEAD_US = DAY_US
/**
 * The lower bound also where readings are kept for ever: what lies before 1970 comes from a clock that was never set, and
 * each week since is one partition at most, some 3,000.
 */
const EARLIEST_US = 0
/** Readings less apart than this are one range for the roll-ups. */
const RANGE_GAP_US = 3_600_000_000
const MAX_RANGES = 64
const NUL = '\0'

export type PreparedBatch = {
  header: BatchHeader
  kind: 'data' | 'tombstone' | 'undecodable'
  /** What the ledger knows the batch by: for a tombstone the evicted batch's, else its own. */
  digest: Uint8Array
  predecessor: Uint8Array
  wire: Uint8Array
  rejects: PlacedReject[]
  events: MaintenanceEvent[]
  tombstone: Tombstone | null
  /** Readings or events, by their place among them, that must not be tried. */
  condemned: ReadonlyMap<number, RowRefusal>
  /** Why the content can't be opened; null when it can. */
  problem: string | null
  /** A multirange of its readings' times, or null. */
  touched: string | null
  /** Of its readings, how many are in `order`. */
  storable: number
  /** Index in the group that was given. */
  place: number
}

export type Prepared = {
  /** Sorted by ledger key: the order in which every bridge takes them. */
  batches: PreparedBatch[]
  unreadable: { place: number; gateway: string; wire: Uint8Array; detail: string }[]
  /** The same batch twice in the group: [place, place of the first]; `same`: with the same digest. */
  repeats: { place: number; first: number; same: boolean }[]
  rows: Rows
  refused: Map<number, RowRefusal>
  order: Uint32Array
  /** `order` for a COPY straight into the table. */
  copy: Buffer
}

/** A batch as it came, opened. */
export type Opened =
  | { kind: 'batch'; batch: Omit<PreparedBatch, 'place'>; readings: ReadingColumns | null }
  | { kind: 'unreadable'; gateway: string; wire: Uint8Array; detail: string }

/** @throws whatever isn't the content's fault */
export function openArrived(arrived: Arrived): Opened {
  if (arrived.kind === 'unreadable') return arrived
  const batch = unopened(arrived.envelope, arrived.wire)
  let body: Body
  try {
    body = openBody(arrived.envelope)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { kind: 'batch', batch: { ...batch, kind: 'undecodable', problem: error.message }, readings: null }
  }
  switch (body.kind) {
    case 'tombstone': {
      const { tombstone } = body
      const digest = Buffer.from(tombstone.digest, 'hex')
      return { kind: 'batch', batch: { ...batch, kind: 'tombstone', tombstone, digest }, readings: null }
    }
    case 'maintenance':
      return { kind: 'batch', batch: { ...batch, events: body.events }, readings: null }
    case 'readings':
      return { kind: 'batch', batch: { ...batch, rejects: body.rejects }, readings: body.readings }
  }
}

/** The batch as one dead letter, without a look into it. */
export function giveUp(arrived: Arrived, problem: string): Opened {
  if (arrived.kind === 'unreadable') return arrived
  const batch = unopened(arrived.envelope, arrived.wire)
  return { kind: 'batch', batch: { ...batch, kind: 'undecodable', problem }, readings: null }
}

function unopened({ header, digest, predecessor }: Envelope, wire: Uint8Array): Omit<PreparedBatch, 'place'> {
  return {
    header,
    kind: 'data',
    digest,
    predecessor,
    wire,
    rejects: [],
    events: [],
    tombstone: null,
    condemned: new Map(),
    problem: null,
    touched: null,
    storable: 0
  }
}

/** @throws only what is this program's fault */
export function assemble(group: readonly Opened[], nowMs: number, retentionDays: number): Prepared {
  const batches: PreparedBatch[] = []
  const unreadable: Prepared['unreadable'] = []
  const repeats: Prepared['repeats'] = []
  const columns = new Map<PreparedBatch, ReadingColumns>()
  const firsts = new Map<string, PreparedBatch>()
  for (const [place, opened] of group.entries()) {
    if (opened.kind === 'unreadable') {
      unreadable.push({ place, gateway: opened.gateway, wire: opened.wire, detail: opened.detail })
      continue
    }
    const batch = { ...opened.batch, place }
    const key = keyOf(batch.header)
    const first = firsts.get(key)
    if (first !== undefined) {
      repeats.push({ place, first: first.place, same: sameBytes(first.digest, batch.digest) })
      continue
    }
    firsts.set(key, batch)
    batches.push(batch)
    if (opened.readings !== null) columns.set(batch, opened.readings)
  }
  batches.sort((a, b) => compareKeys(a.header, b.header))
  const nothing = createColumnBuilder(1).finish()
  const rows = joinRows(
    batches.map((batch) => ({ gateway: batch.header.gateway, columns: columns.get(batch) ?? nothing }))
  )
  const refused = refuseRows(rows, nowMs, retentionDays)
  for (const [index, { kind, header, condemned }] of batches.entries()) {
    if (kind !== 'data' || header.lane !== 'readings') continue
    for (const [place, refusal] of condemned) refused.set((rows.starts[index] ?? 0) + place, refusal)
  }
  const order = orderRows(rows, refused.size === 0 ? () => true : (row) => !refused.has(row))
  countAndRange(batches, rows, order)
  return { batches, unreadable, repeats, rows, refused, order, copy: encodeRows(rows, order, { ordinals: false }) }
}

export function keyOf({
  gateway,
  epoch,
  lane,
  batch
}: {
  gateway: string
  epoch: string
  lane: string
  batch: number
}): string {
  return `${gateway}/${epoch}/${lane}/${batch}`
}

function compareKeys(a: BatchHeader, b: BatchHeader): number {
  if (a.gateway !== b.gateway) return a.gateway < b.gateway ? -1 : 1
  if (a.epoch !== b.epoch) return a.epoch < b.epoch ? -1 : 1
  if (a.lane !== b.lane) return a.lane < b.lane ? -1 : 1
  return a.batch - b.batch
}

/** What need not be tried: times outside the bounds, and NUL, which PostgreSQL has in no text. */
function refuseRows(rows: Rows, nowMs: number, retentionDays: number): Map<number, RowRefusal> {
  const refused = new Map<number, RowRefusal>()
  const latestUs = nowMs * 1_000 + MAX_AHEAD_US
  const retainedUs = retentionDays === 0 ? EARLIEST_US : nowMs * 1_000 - retentionDays * DAY_US
  const earliestUs = Math.max(EARLIEST_US, retainedUs)
  for (let row = 0; row < rows.count; row++) {
    const atUs = rows.timestampUs[row] ?? 0
    if (atUs >= earliestUs && atUs <= latestUs) continue
    const detail =
      atUs > latestUs
        ? `${instantText(atUs)} is more than a day ahead of the bridge's clock`
        : atUs < EARLIEST_US
          ? `${instantText(atUs)} is before 1970`
          : `${instantText(atUs)} is older than the retention of ${retentionDays} days`
    refused.set(row, { reason: 'time_out_of_range', detail, sqlstate: null })
  }
  for (const [row, text] of rows.texts) {
    if (!text.includes(NUL) || refused.has(row)) continue
    refused.set(row, { reason: 'refused_by_database', detail: 'the text contains NUL', sqlstate: '22021' })
  }
  return refused
}

/** How many of each batch's readings are in `order`, and the ranges of their times. */
function countAndRange(batches: readonly PreparedBatch[], rows: Rows, order: Uint32Array): void {
  const single = batches.length === 1
  const [only] = batches
  const firstUs = rows.timestampUs[order[0] ?? 0] ?? 0
  const lastUs = rows.timestampUs[order[order.length - 1] ?? 0] ?? 0
  if (only !== undefined && single && order.length > 0 && lastUs - firstUs < RANGE_GAP_US) {
    only.storable = order.length
    only.touched = `{${rangeText(firstUs, lastUs)}}`
    return
  }
  const ranges = batches.map((): { fromUs: number; toUs: number }[] => [])
  for (const row of order) {
    const index = single ? 0 : batchOfRow(rows, row)
    const batch = batches[index]
    const own = ranges[index]
    if (batch === undefined || own === undefined) continue
    batch.storable += 1
    const atUs = rows.timestampUs[row] ?? 0
    const range = own[own.length - 1]
    if (range !== undefined && (atUs - range.toUs < RANGE_GAP_US || own.length === MAX_RANGES)) range.toUs = atUs
    else own.push({ fromUs: atUs, toUs: atUs })
  }
  for (const [index, batch] of batches.entries()) {
    const texts = ranges[index]?.map(({ fromUs, toUs }) => rangeText(fromUs, toUs)) ?? []
    batch.touched = texts.length === 0 ? null : `{${texts.join(',')}}`
  }
}

function rangeText(fromUs: number, toUs: number): string {
  return `[${instantText(fromUs)},${instantText(toUs)}]`
}

/** The batch's events with their places in the lane. */
export function incomingOf({ header, events }: PreparedBatch): Incoming[] {
  const { gateway, epoch, batch, firstSeq } = header
  return events.map((event, place) => ({ gateway, epoch, batch, seq: firstSeq + place, event }))
}

/** The seq of a batch's `reading`-th reading: readings fill the places that the rejects leave. */
export function seqOfReading(batch: PreparedBatch, reading: number): number {
  let position = reading
  for (const reject of batch.rejects.map(({ position: place }) => place).sort((a, b) => a - b)) {
    if (reject <= position) position += 1
    else break
  }
  return batch.header.firstSeq + position
}
