// What may be deleted, and when: rows past the dedupe window, acknowledged batches past the time they are kept.
//
// Ages are measured by the monotonic clock from when this process saw them: a step of the wall clock deletes nothing, and after
// a restart everything is young again.
import type { Lane } from '../../shared/batch/envelope.ts'
import type { BufferFile } from './file.ts'
import type { Lanes } from './lanes.ts'

export type Windows = {
  /** Notes how far the lanes have come by now. */
  mark(): void
  /** A batch was acknowledged. */
  keep(batchId: number): void
  /** Inside the caller's transaction: deletes a portion of the sealed rows older than `ageMs`; true when more are left. */
  pruneRows(ageMs: number): boolean
  /** Inside the caller's transaction: deletes a portion of the batches acknowledged over `ageMs` ago; true when more are left. */
  pruneKept(ageMs: number): boolean
  /** To undo what was noted since, after a rollback. */
  save(): () => void
  /** Whether either would delete anything. */
  isDue(rowsAgeMs: number, keptAgeMs: number): boolean
}

const ROWS_AT_ONCE = 20_000
const BATCHES_AT_ONCE = 200
const MARK_EVERY_MS = 10_000

export function createWindows(db: BufferFile, lanes: Lanes, clockMs: () => number): Windows {
  const selectAcknowledged = db.prepare<[], number>('SELECT id FROM batches WHERE acknowledged = 1 ORDER BY id').pluck()
  const deleteBatch = db.prepare('DELETE FROM batches WHERE id = ? AND acknowledged = 1')
  const deleteWire = db.prepare('DELETE FROM wires WHERE id = ?')
  const firstRecord = db
    .prepare<[], number | null>(
      'SELECT MIN(seq) FROM (SELECT MIN(seq) AS seq FROM readings UNION ALL SELECT MIN(seq) FROM rejects)'
    )
    .pluck()
  const firstEvent = db.prepare<[], number | null>('SELECT MIN(seq) FROM events').pluck()
  const deleteReadings = db.prepare('DELETE FROM readings WHERE seq < ?')
  const deleteRejects = db.prepare('DELETE FROM rejects WHERE seq < ?')
  const deleteEvents = db.prepare('DELETE FROM events WHERE seq < ?')

  const kept = selectAcknowledged.all().map((id) => ({ id, sinceMs: clockMs() }))
  /** The next seq of each lane at a time: what lies below is at least that old. */
  const marks: { next: Record<Lane, number>; atMs: number }[] = []
  const oldest: Record<Lane, number | null> = {
    readings: firstRecord.get() ?? null,
    maintenance: firstEvent.get() ?? null
  }

  /** The seq below which a lane's rows are older than `ageMs` and sealed. */
  function limitOf(lane: Lane, ageMs: number): number {
    const limitMs = clockMs() - ageMs
    if (ageMs === 0) return lanes.current(lane).sealedSeq + 1
    while ((marks[1]?.atMs ?? Number.POSITIVE_INFINITY) <= limitMs) marks.shift()
    const mark = marks[0]
    if (mark === undefined || mark.atMs > limitMs) return 0
    return Math.min(mark.next[lane], lanes.current(lane).sealedSeq + 1)
  }

  function mark(): void {
    const atMs = clockMs()
    if (atMs - (marks.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY) < MARK_EVERY_MS) return
    const next = { readings: lanes.current('readings').nextSeq, maintenance: lanes.current('maintenance').nextSeq }
    oldest.readings ??= next.readings
    oldest.maintenance ??= next.maintenance
    marks.push({ next, atMs })
  }
  mark()

  return {
    mark,
    keep: (id) => void kept.push({ id, sinceMs: clockMs() }),
    pruneRows(ageMs) {
      const limit = limitOf('readings', ageMs)
      const until = Math.min(limit, (oldest.readings ?? limit) + ROWS_AT_ONCE)
      deleteReadings.run(until)
      deleteRejects.run(until)
      oldest.readings = Math.max(until, oldest.readings ?? 0)
      const eventLimit = limitOf('maintenance', ageMs)
      deleteEvents.run(eventLimit)
      oldest.maintenance = Math.max(eventLimit, oldest.maintenance ?? 0)
      return until < limit
    },
    pruneKept(ageMs) {
      const limitMs = clockMs() - ageMs
      let deleted = 0
      for (let first = kept[0]; first !== undefined && first.sinceMs <= limitMs; first = kept[0]) {
        if (deleted === BATCHES_AT_ONCE) return true
        deleteBatch.run(first.id)
        deleteWire.run(first.id)
        kept.shift()
        deleted += 1
      }
      return false
    },
    save() {
      const before = { kept: [...kept], oldest: { ...oldest } }
      return () => {
        kept.splice(0, kept.length, ...before.kept)
        Object.assign(oldest, before.oldest)
      }
    },
    isDue(rowsAgeMs, keptAgeMs) {
      const first = kept[0]
      if (first !== undefined && first.sinceMs <= clockMs() - keptAgeMs) return true
      return (
        limitOf('readings', rowsAgeMs) > (oldest.readings ?? Number.POSITIVE_INFINITY) ||
        limitOf('maintenance', rowsAgeMs) > (oldest.maintenance ?? Number.POSITIVE_INFINITY)
      )
    }
  }
}
