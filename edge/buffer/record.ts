// The form of a reject in the buffer file: CBOR of exactly `Reject`.
import { z } from 'zod'
import type { Reject, RejectReason } from '../../shared/reading.ts'

const rejectRecord = z.object({
  id: z.string(),
  reason: z.custom<RejectReason>((value) => typeof value === 'string'),
  detail: z.string(),
  topic: z.string(),
  payload: z.custom<Uint8Array>((value) => value instanceof Uint8Array),
  payloadBytes: z.number(),
  payloadSha256: z.string().nullable(),
  receivedUs: z.number()
})

/** @throws ZodError when the file holds something else. */
export function parseReject(value: unknown): Reject {
  return rejectRecord.parse(value)
}
