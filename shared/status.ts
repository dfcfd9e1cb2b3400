// What an edge says of itself, JSON, retained on `millrace/v1/{gateway}/status` and on `/health`.
import { z } from 'zod'

/** The sums of one epoch, in decoded records: received = filtered + duplicate + accepted; accepted = pending + evicted + acknowledged. */
export const epochSums = z.object({
  epoch: z.string(),
  lane: z.enum(['readings', 'maintenance']),
  received: z.int(),
  filtered: z.int(),
  duplicate: z.int(),
  accepted: z.int(),
  /** Of the accepted, how many are rejects (conflicts included). */
  rejected: z.int(),
  pending: z.int(),
  evicted: z.int(),
  acknowledged: z.int(),
  /** What became of the acknowledged, as the bridge said. */
  stored: z.int(),
  cloudDuplicates: z.int(),
  deadLettered: z.int()
})
export type EpochSums = z.infer<typeof epochSums>

/** A door for messages, or the uplink. `error`: why it isn't `up`. */
export const doorState = z.object({
  name: z.string(),
  state: z.enum(['up', 'down', 'off']),
  detail: z.string().nullable(),
  messages: z.int()
})
export type DoorState = z.infer<typeof doorState>

export const edgeStatus = z.object({
  gateway: z.string(),
  online: z.boolean(),
  version: z.string().nullable(),
  startedAt: z.string().nullable(),
  /** The edge's clock when this was written, ISO 8601. */
  clock: z.string().nullable(),
  epoch: z.string().nullable(),
  sums: z.array(epochSums),
  backlog: z
    .object({
      records: z.int(),
      bytes: z.int(),
      /** Age of the oldest pending record, s; 0 when there is none. */
      oldestS: z.number()
    })
    .nullable(),
  disk: z.object({ usedBytes: z.int(), maxBytes: z.int(), freeBytes: z.int().nullable() }).nullable(),
  doors: z.array(doorState),
  /** What is wrong, one sentence each; empty when well. */
  problems: z.array(z.string())
})
export type EdgeStatus = z.infer<typeof edgeStatus>

/** The will: what the broker says when the edge is gone. */
export function offlineStatus(gateway: string): EdgeStatus {
  return {
    gateway,
    online: false,
    version: null,
    startedAt: null,
    clock: null,
    epoch: null,
    sums: [],
    backlog: null,
    disk: null,
    doors: [],
    problems: ['offline: the connection to the broker was lost']
  }
}
