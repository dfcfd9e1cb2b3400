// How long unsealed records wait for company. A full batch is sealed at once; others only while something can be sent: with
// LINGER_RECORDS after `lingerMs`, with fewer after ten times that, so that an idle gateway makes few small batches. The lane of
// maintenance events doesn't linger, and doesn't wait for a way to send.
import { LANES } from '../../shared/batch/envelope.ts'
import type { Lane } from '../../shared/batch/envelope.ts'
import { FULL_RECORDS, RECKONED_READING_BYTES } from './sealing.ts'

export type Linger = {
  /** Records came that are reckoned with so many bytes. */
  took(lane: Lane, bytes: number): void
  /** A batch was sealed; `left` records of the lane are not. */
  sealed(lane: Lane, bytes: number, left: number): void
  isDue(lane: Lane, unsealed: number, sending: boolean): boolean
  /** When readings become due, ms from now; null: nothing waits. */
  dueInMs(unsealed: number): number | null
  /** What the unsealed records are reckoned with. */
  bytes(): number
  /** To undo what was noted since, after a rollback. */
  save(): () => void
}

const LINGER_RECORDS = 100
const IDLE_LINGERS = 10

type Waiting = { sinceMs: number | null; bytes: number }

/** `clockMs`: monotonic. */
export function createLinger(options: { lingerMs: number; fullBytes: number; clockMs: () => number }): Linger {
  let waiting: Record<Lane, Waiting> = {
    readings: { sinceMs: null, bytes: 0 },
    maintenance: { sinceMs: null, bytes: 0 }
  }
  return {
    took(lane, bytes) {
      const { sinceMs, bytes: before } = waiting[lane]
      waiting[lane] = { sinceMs: sinceMs ?? options.clockMs(), bytes: before + bytes }
    },
    sealed(lane, bytes, left) {
      const { sinceMs, bytes: before } = waiting[lane]
      waiting[lane] =
        left === 0
          ? { sinceMs: null, bytes: 0 }
          : { sinceMs, bytes: Math.max(left * RECKONED_READING_BYTES, before - bytes) }
    },
    isDue(lane, unsealed, sending) {
      const { sinceMs, bytes } = waiting[lane]
      if (sinceMs === null) return false
      if (unsealed >= FULL_RECORDS || bytes >= options.fullBytes) return true
      // Whatever holds the readings up: an event is small, and must be ready when its own lane has room.
      if (lane === 'maintenance') return true
      if (!sending) return false
      const ageMs = options.clockMs() - sinceMs
      return ageMs >= options.lingerMs * IDLE_LINGERS || (ageMs >= options.lingerMs && unsealed >= LINGER_RECORDS)
    },
    dueInMs(unsealed) {
      const { sinceMs } = waiting.readings
      if (sinceMs === null) return null
      const lingerMs = unsealed >= LINGER_RECORDS ? options.lingerMs : options.lingerMs * IDLE_LINGERS
      return Math.max(0, sinceMs + lingerMs - options.clockMs())
    },
    bytes: () => LANES.reduce((sum, lane) => sum + waiting[lane].bytes, 0),
    save() {
      const before = { ...waiting }
      return () => {
        waiting = before
      }
    }
  }
}
