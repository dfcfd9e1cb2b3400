// Sealed batches that wait to be acknowledged, and their acknowledgement.
import type { Ack } from '../../shared/ack.ts'
import { hexOf, LANES, openEnvelope, sameBytes } from '../../shared/batch/envelope.ts'
import type { Lane } from '../../shared/batch/envelope.ts'
import { AppError } from '../../shared/errors.ts'
import type { BufferFile } from './file.ts'
import type { Lanes } from './lanes.ts'

/** A sealed batch to send. `digest` is hex. */
export type OutgoingBatch = {
  id: number
  epoch: string
  lane: Lane
  batch: number
  firstSeq: number
  lastSeq: number
  records: number
  digest: string
  wire: Uint8Array
}

export type Acknowledged = { id: number; records: number; wireBytes: number }

export type Outbox = {
  /** Unacknowledged batches of a lane with ids over `afterId`, oldest first. */
  pending(lane: Lane, afterId: number, limit: number): OutgoingBatch[]
  /**
   * Inside the caller's transaction: marks the batch that has exactly the acknowledged digest, and adds the counts to its
   * epoch's sums. Null: an answer that fits no waiting batch; it changes nothing.
   */
  acknowledge(ack: Ack): Acknowledged | null
  /** @throws AppError `buffer_broken` when the newest batch of a lane is not the whole head of its chain. */
  checkTail(path: string): void
  waiting(): { records: number; bytes: number }
  oldestReceivedUs(lane: Lane): number | null
  /** Proves the next of the batches that were in the file at the opening: null when all were. */
  checkNext(): 'whole' | 'damaged' | null
}

type BatchRow = { id: number; records: number; wireBytes: number; digest: Uint8Array; acknowledged: number }

export function createOutbox(db: BufferFile, lanes: Lanes): Outbox {
  const selectPending = db.prepare<[Lane, number, number], Omit<OutgoingBatch, 'digest'> & { digest: Uint8Array }>(`
    SELECT batches.id, epoch, lane, batch, first_seq AS firstSeq, last_seq AS lastSeq, records, digest, wire
    FROM batches
    JOIN wires ON wires.id = batches.id
    WHERE acknowledged = 0 AND lane = ? AND batches.id > ?
    ORDER BY batches.id
    LIMIT ?`)
  const selectBatch = db.prepare<[string, Lane, number], BatchRow>(`
    SELECT id, records, wire_bytes AS wireBytes, digest, acknowledged
    FROM batches
    WHERE epoch = ? AND lane = ? AND batch = ?`)
  const markAcknowledged = db.prepare('UPDATE batches SET acknowledged = 1 WHERE id = ?')
  const addToLane = db.prepare(`
    UPDATE lanes
    SET acknowledged = acknowledged + @records,
      stored = stored + @stored,
      cloud_duplicates = cloud_duplicates + @duplicates,
      dead_lettered = dead_lettered + @dead_letters
    WHERE epoch = @epoch AND lane = @lane`)
  const sumWaiting = db.prepare<[], { records: number; bytes: number }>(
    'SELECT COALESCE(SUM(records), 0) AS records, COALESCE(SUM(wire_bytes), 0) AS bytes FROM batches WHERE acknowledged <> 1'
  )
  const oldest = db
    .prepare<[Lane], number>('SELECT received FROM batches WHERE acknowledged = 0 AND lane = ? ORDER BY id LIMIT 1')
    .pluck()
  const newestId = db.prepare<[], number>('SELECT COALESCE(MAX(id), 0) FROM batches').pluck()
  const selectAfter = db.prepare<[number], { id: number; digest: Uint8Array; wire: Uint8Array }>(`
    SELECT batches.id, digest, wire
    FROM batches
    JOIN wires ON wires.id = batches.id
    WHERE batches.id > ?
    ORDER BY batches.id
    LIMIT 1`)
  const checkUntil = newestId.get() ?? 0
  let checkedTo = 0

  return {
    pending: (lane, afterId, limit) =>
      selectPending.all(lane, afterId, limit).map((row) => ({ ...row, digest: hexOf(row.digest) })),
    acknowledge(ack) {
      if (ack.result !== 'committed' && ack.result !== 'replay') return null
      if (ack.epoch === null || ack.lane === null || ack.batch === null) return null
      const row = selectBatch.get(ack.epoch, ack.lane, ack.batch)
      if (row === undefined || row.acknowledged !== 0 || hexOf(row.digest) !== ack.digest) return null
      const counted = ack.stored + ack.duplicates + ack.dead_letters
      if (counted !== row.records || Math.min(ack.stored, ack.duplicates, ack.dead_letters) < 0) return null
      markAcknowledged.run(row.id)
      addToLane.run({
        epoch: ack.epoch,
        lane: ack.lane,
        records: row.records,
        stored: ack.stored,
        duplicates: ack.duplicates,
        dead_letters: ack.dead_letters
      })
      lanes.reload()
      return { id: row.id, records: row.records, wireBytes: row.wireBytes }
    },
    checkTail(path) {
      for (const lane of LANES) {
        const state = lanes.current(lane)
        const newest = selectBatch.get(state.epoch, lane, state.lastBatch)
        if (newest === undefined) continue
        const row = selectAfter.get(newest.id - 1)
        if (!sameBytes(newest.digest, state.lastDigest) || row === undefined || !isWhole(row.wire, row.digest)) {
          throw new AppError(
            'buffer_broken',
            `${path}: batch ${state.lastBatch} of ${lane} is damaged or not the head of its chain`
          )
        }
      }
    },
    waiting: () => sumWaiting.get() ?? { records: 0, bytes: 0 },
    oldestReceivedUs: (lane) => oldest.get(lane) ?? null,
    checkNext() {
      if (checkedTo >= checkUntil) return null
      const row = selectAfter.get(checkedTo)
      if (row === undefined || row.id > checkUntil) {
        checkedTo = checkUntil
        return null
      }
      checkedTo = row.id
      return isWhole(row.wire, row.digest) ? 'whole' : 'damaged'
    }
  }
}

function isWhole(wire: Uint8Array, digest: Uint8Array): boolean {
  try {
    return sameBytes(openEnvelope(wire).digest, digest)
  } catch (error) {
    if (error instanceof AppError) return false
    throw error
  }
}
