// What the edge's main thread and the buffer's thread say to each other.
import type { Ack } from '../../shared/ack.ts'
import type { Lane } from '../../shared/batch/envelope.ts'
import type { ErrorCode } from '../../shared/errors.ts'
import type { Group } from './append.ts'
import type { InternedReadings } from './interning.ts'
import type { OutgoingBatch } from './outbox.ts'
import type { PacketKey, StoredPacket, StoreFigures, StoreOptions } from './store.ts'

export type ToBuffer =
  | { kind: 'append'; id: number; group: Omit<Group, 'readings'>; readings: InternedReadings }
  | { kind: 'pending'; id: number; lane: Lane; afterId: number; limit: number }
  | { kind: 'acknowledge'; acks: Ack[] }
  | { kind: 'release'; id: number; packets: PacketKey[]; forgotten: string[] }
  | { kind: 'begin-epoch'; id: number }
  | { kind: 'sending'; sending: boolean }
  | { kind: 'figures'; id: number }
  | { kind: 'close'; id: number }

export type Failure = { code: ErrorCode; message: string; hint: string | null }

export type FromBuffer =
  | { kind: 'opened'; lastStampUs: number; packets: StoredPacket[] }
  | { kind: 'unopened'; failure: Failure }
  | { kind: 'done'; ids: number[] }
  | { kind: 'failed'; ids: number[]; failure: Failure }
  | { kind: 'pending'; id: number; batches: OutgoingBatch[] }
  | { kind: 'figures'; id: number; figures: StoreFigures }
  /** New batches can be asked for. */
  | { kind: 'sealed' }
  /** The file can't be trusted any more (fsync failed, damaged): the process must end and recover by starting again. */
  | { kind: 'fatal'; message: string }

export type WorkerOptions = StoreOptions & { fullWaitMs: number }
