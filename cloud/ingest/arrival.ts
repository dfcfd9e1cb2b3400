// A batch as it came off the wire, and what became of it.
import type { Refusal } from '../../shared/ack.ts'
import type { Envelope, Lane } from '../../shared/batch/envelope.ts'

/** `batch`: its envelope is proven, its content not yet opened. `unreadable`: not even a header could be read. */
export type Arrived =
  | { kind: 'batch'; envelope: Envelope; wire: Uint8Array }
  | { kind: 'unreadable'; gateway: string; wire: Uint8Array; detail: string }

export type Outcome = {
  /** `superseded`: nothing became of it, the same batch came again and waits in its place. */
  result: 'committed' | 'replay' | 'refused' | 'superseded'
  reason: Refusal | null
  /** Of a replay, as they were stored. Records. */
  stored: number
  duplicates: number
  deadLetters: number
}

export function refused(reason: Refusal): Outcome {
  return { result: 'refused', reason, stored: 0, duplicates: 0, deadLetters: 0 }
}

/** Unreadable batches wait among the readings. */
export function laneOf(arrived: Arrived): Lane {
  return arrived.kind === 'batch' ? arrived.envelope.header.lane : 'readings'
}

/** As announced; what can't be read counts as one record. */
export function recordsOf(arrived: Arrived): number {
  return arrived.kind === 'batch' ? arrived.envelope.header.records : 1
}

/** Of the content, uncompressed. */
export function bytesOf(arrived: Arrived): number {
  return arrived.kind === 'batch' ? arrived.envelope.header.bodyBytes : arrived.wire.length
}
