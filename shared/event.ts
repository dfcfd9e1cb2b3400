// Maintenance events: what the plant says happened to a task. An event is a fact; whether it was legal is the cloud's to note.
import { z } from 'zod'

export const TASK_STATES = [
  'pending',
  'in_progress',
  'completed',
  'partially_completed',
  'failed',
  'cancelled'
] as const
export type TaskState = (typeof TASK_STATES)[number]

/** Longest texts, in characters. */
const ID_LENGTH = 200
const NOTE_LENGTH = 8_000

const id = z.string().min(1).max(ID_LENGTH)

/** The wire form of an event, after decoding. `timestampUs` is the source's, or the arrival time. */
export const maintenanceEvent = z.object({
  /** Unique for the event; the dedupe key. Made at intake when the source gave none. */
  id,
  /** The plant's name of the task; events with the same one belong to one task of the gateway. */
  task: id,
  /** The state that the task took. */
  state: z.enum(TASK_STATES),
  equipment: id.nullable(),
  sensor: id.nullable(),
  title: z.string().max(1_000).nullable(),
  /** Who did it. */
  by: z.string().max(ID_LENGTH).nullable(),
  /** Why, or what was found. */
  note: z.string().max(NOTE_LENGTH).nullable(),
  timestampUs: z.int(),
  receivedUs: z.int(),
  topic: z.string().max(65_535)
})

export type MaintenanceEvent = z.infer<typeof maintenanceEvent>
