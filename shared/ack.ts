// The bridge's answer to a batch, JSON on `millrace/v1/{gateway}/ack`. The edge matches it by epoch, lane, batch and digest.
import { z } from 'zod'
import { LANES } from './batch/envelope.ts'

export const ACK_RESULTS = ['committed', 'replay', 'refused', 'unsupported_version'] as const

/** Why a batch was refused. */
export const REFUSALS = [
  /** The ledger has this batch number with another digest: a cloned or restored gateway; the edge takes a new epoch. */
  'fork',
  /** It lies at or below the ledger's checkpoint. */
  'folded',
  /** The bytes were changed on their way: send it again. */
  'wrong_digest',
  /** Topic and envelope name different gateways. */
  'wrong_gateway',
  /** Not a batch at all. */
  'unreadable'
] as const
export type Refusal = (typeof REFUSALS)[number]

/** `epoch`, `lane`, `batch` and the seqs are null only where the batch could not be read that far; `digest` is hex. */
export const ack = z.object({
  result: z.enum(ACK_RESULTS),
  reason: z.enum(REFUSALS).nullable(),
  epoch: z.string().nullable(),
  lane: z.enum(LANES).nullable(),
  batch: z.int().nullable(),
  first_seq: z.int().nullable(),
  last_seq: z.int().nullable(),
  digest: z.string().nullable(),
  stored: z.int(),
  duplicates: z.int(),
  dead_letters: z.int()
})
export type Ack = z.infer<typeof ack>
