// One lane's batches on their way: a window that grows with each answer and halves when one is late, and when to send again.
//
// A batch stays in flight until its answer comes; it is sent again, the same bytes, when the answer is late (three smoothed
// round trips, doubled with each try, with full jitter) and whenever the connection was lost.
import type { OutgoingBatch } from '../buffer/outbox.ts'

export type Flight = {
  /** How many more may be sent now. */
  room(): number
  /** The id of the newest batch sent so far; 0 at first. */
  newestId(): number
  sent(batch: OutgoingBatch): void
  /** The batch that an answer with this digest (hex) is for. */
  find(digest: string): OutgoingBatch | null
  answered(digest: string): void
  /** Batches whose answer is late; each is noted as sent again. */
  takeLate(): OutgoingBatch[]
  /** After a reconnect: all in flight, oldest first, noted as sent again. */
  takeAll(): OutgoingBatch[]
  /** Makes one batch due again after a wait, e.g. when its bytes arrived damaged. */
  delay(digest: string): void
  clear(): void
  inFlight(): number
  resends(): number
}

const FIRST_TIMEOUT_MS = 5_000
/** A batch that was lost on its way is sent again within this time once all is well, unless the link itself is slower. */
const TIMEOUT_CAP_MS = 30_000
const ROUND_TRIPS = 3

/** Sent so often without an answer, a batch no longer takes another's place in the window: one must not stop all. */
const STUCK_TRIES = 2

type Entry = { batch: OutgoingBatch; sentMs: number; dueMs: number; tries: number }

/** `clockMs`: monotonic. `maxWindow`: batches, at least 1. `inOrder`: none is sent past one that has no answer. */
export function createFlight(options: {
  maxWindow: number
  inOrder: boolean
  clockMs: () => number
  random: () => number
}): Flight {
  const entries = new Map<string, Entry>()
  let window = options.maxWindow
  let newestId = 0
  let roundTripMs = 0
  let resends = 0

  function timeoutMs(tries: number): number {
    const baseMs = Math.max(FIRST_TIMEOUT_MS, roundTripMs * ROUND_TRIPS)
    return Math.max(baseMs, Math.min(TIMEOUT_CAP_MS, baseMs + options.random() * baseMs * (2 ** tries - 1)))
  }

  function again(entry: Entry): OutgoingBatch {
    const nowMs = options.clockMs()
    entry.tries += 1
    entry.sentMs = nowMs
    entry.dueMs = nowMs + timeoutMs(entry.tries)
    resends += 1
    return entry.batch
  }

  return {
    room() {
      if (options.inOrder) return Math.max(0, Math.floor(window) - entries.size)
      const stuck = [...entries.values()].filter(({ tries }) => tries >= STUCK_TRIES).length
      return Math.max(0, Math.min(Math.floor(window) - (entries.size - stuck), options.maxWindow * 2 - entries.size))
    },
    newestId: () => newestId,
    sent(batch) {
      const nowMs = options.clockMs()
      entries.set(batch.digest, { batch, sentMs: nowMs, dueMs: nowMs + timeoutMs(0), tries: 0 })
      newestId = Math.max(newestId, batch.id)
    },
    find: (digest) => entries.get(digest)?.batch ?? null,
    answered(digest) {
      const entry = entries.get(digest)
      if (entry === undefined) return
      entries.delete(digest)
      window = Math.min(options.maxWindow, window + 1 / window)
      // An answer after a resend doesn't tell which sending it answers (Karn's rule): it is no measure of the round trip.
      if (entry.tries > 0) return
      const tookMs = options.clockMs() - entry.sentMs
      roundTripMs = roundTripMs === 0 ? tookMs : roundTripMs * 0.875 + tookMs * 0.125
    },
    takeLate() {
      const nowMs = options.clockMs()
      const late = [...entries.values()].filter((entry) => entry.dueMs <= nowMs)
      if (late.some(({ tries }) => tries === 0)) window = Math.max(1, window / 2)
      return late.map(again)
    },
    takeAll: () => [...entries.values()].map(again),
    delay(digest) {
      const entry = entries.get(digest)
      if (entry !== undefined) entry.dueMs = options.clockMs() + timeoutMs(entry.tries)
    },
    clear() {
      entries.clear()
      newestId = 0
    },
    inFlight: () => entries.size,
    resends: () => resends
  }
}
