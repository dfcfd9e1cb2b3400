// The content of a batch, before compression: a CBOR map of typed columns. FORMAT.md describes it byte by byte.
//
// Rejects carry their place; the readings fill the places that are left.
import { decode, encode } from 'cborg'
import { z } from 'zod'
import { AppError, messageOf } from '../errors.ts'
import { maintenanceEvent } from '../event.ts'
import type { MaintenanceEvent } from '../event.ts'
import type { Reject, RejectReason } from '../reading.ts'
import type { ReadingColumns } from './columns.ts'
import { decodeReadings, encodeReadings, readingsColumns } from './readings.ts'

/** The most records in a batch, and the most bytes of its content uncompressed: what a bridge must be able to hold. */
export const MAX_BATCH_RECORDS = 20_000
export const MAX_BODY_BYTES = 4 * 2 ** 20

/** A reject and its place in the batch: its seq is `firstSeq + position`. */
export type PlacedReject = Reject & { position: number }

/** What an evicted batch was, sent in its place. `digest`: of the evicted batch, hex. */
export type Tombstone = {
  id: string
  digest: string
  records: number
  sensors: string[]
  fromUs: number | null
  toUs: number | null
}

export type Body =
  | { kind: 'readings'; readings: ReadingColumns; rejects: PlacedReject[] }
  | { kind: 'maintenance'; events: MaintenanceEvent[] }
  | { kind: 'tombstone'; tombstone: Tombstone }

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'must be bytes')
const whole = z.int()
const rejectEntry = z.object({
  position: whole.min(0),
  id: z.string().min(1).max(200),
  reason: z.string().max(100),
  detail: z.string().max(2_000),
  topic: z.string().max(65_535),
  payload: bytes,
  payloadBytes: whole.min(0),
  payloadSha256: z.string().max(64).nullable(),
  receivedUs: whole
})
const readingsBody = readingsColumns.extend({ rejects: z.array(rejectEntry) })
const maintenanceBody = z.object({ events: z.array(maintenanceEvent) })
const tombstoneBody = z.object({
  id: z.string().min(1).max(200),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  records: whole.min(0),
  sensors: z.array(z.string()),
  fromUs: whole.nullable(),
  toUs: whole.nullable()
})

export function encodeBody(body: Body): Uint8Array {
  if (body.kind === 'tombstone') return encode(body.tombstone)
  if (body.kind === 'maintenance') return encode({ events: body.events })
  return encode({ ...encodeReadings(body.readings), rejects: body.rejects })
}

/** @throws AppError `batch_unreadable` */
export function decodeBody(kind: Body['kind'], content: Uint8Array, records: number): Body {
  const parsed = parseContent(content)
  if (kind === 'tombstone') return { kind, tombstone: checked(tombstoneBody, parsed) }
  if (kind === 'maintenance') {
    const { events } = checked(maintenanceBody, parsed)
    if (events.length !== records)
      throw new AppError('batch_unreadable', `${events.length} events, announced ${records}`)
    return { kind, events }
  }
  const columns = checked(readingsBody, parsed)
  const count = records - columns.rejects.length
  if (count < 0)
    throw new AppError('batch_unreadable', `${columns.rejects.length} rejects, announced ${records} records`)
  const rejects = columns.rejects.map((reject) => ({ ...reject, reason: asReason(reject.reason) }))
  const places = new Set(rejects.map((reject) => reject.position))
  if (places.size !== rejects.length || rejects.some((reject) => reject.position >= records)) {
    throw new AppError('batch_unreadable', 'rejects share a place or lie outside the batch')
  }
  return { kind, readings: decodeReadings(columns, count), rejects }
}

function parseContent(content: Uint8Array): unknown {
  try {
    return decode(content)
  } catch (error) {
    throw new AppError('batch_unreadable', `content is not CBOR: ${messageOf(error)}`)
  }
}

function checked<Output>(schema: z.ZodType<Output>, value: unknown): Output {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new AppError('batch_unreadable', `${issue?.path.join('.') ?? 'content'}: ${issue?.message ?? 'unreadable'}`)
}

const REASONS: readonly RejectReason[] = [
  'payload_unreadable',
  'payload_too_deep',
  'value_missing',
  'value_unreadable',
  'timestamp_unreadable',
  'timestamp_out_of_range',
  'quality_unreadable',
  'sensor_id_unreadable',
  'event_unreadable',
  'record_too_large',
  'conflict'
]

/** A reason that a newer edge knows and this program doesn't is kept as the general one; its detail tells. */
function asReason(text: string): RejectReason {
  return REASONS.find((reason) => reason === text) ?? 'payload_unreadable'
}
