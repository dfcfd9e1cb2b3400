// Seals consecutive records into a batch: read back, encoded, chained to its predecessor, and stored as the bytes that go on
// the wire. Inside the caller's transaction.
import { decode } from 'cborg'
import type { Body, PlacedReject } from '../../shared/batch/body.ts'
import { createColumnBuilder } from '../../shared/batch/columns.ts'
import { openBody, openEnvelope, sealBatch } from '../../shared/batch/envelope.ts'
import type { Envelope, Lane } from '../../shared/batch/envelope.ts'
import { AppError } from '../../shared/errors.ts'
import { maintenanceEvent } from '../../shared/event.ts'
import type { Sensor, Value } from '../../shared/reading.ts'
import type { BufferFile } from './file.ts'
import type { Lanes, LaneState } from './lanes.ts'
import { parseReject } from './record.ts'

/** A batch is full with this many records. */
export const FULL_RECORDS = 5_000

/** Bytes on the wire that a number's reading is reckoned with before it is encoded: more than it usually takes. */
export const RECKONED_READING_BYTES = 12

/** `reckonedBytes`: what its records were reckoned with before they were encoded. */
export type Sealed = { lane: Lane; firstSeq: number; lastSeq: number; wireBytes: number; reckonedBytes: number }

export type Sealer = {
  /** Seals the oldest unsealed records of the lane, at most FULL_RECORDS; null when there are none. */
  seal(lane: Lane): Sealed | null
  /**
   * Seals a batch of an earlier epoch again, in the current one; null when there was none. One whose bytes are damaged can't be
   * sealed again: it stays in the file, marked, and pending in its epoch's sums.
   */
  carryOver(): Sealed | 'damaged' | null
}

type ReadingRow = [seq: number, timestamp: number, sensor: number, received: number, quality: number, value: Value]
type Taken = { body: Body; lastSeq: number; receivedUs: number; reckonedBytes: number }

export function createSealer(db: BufferFile, lanes: Lanes, options: { gateway: string; maxWireBytes: number }): Sealer {
  const selectReadings = db
    .prepare<[number, number], ReadingRow>(
      'SELECT seq, timestamp, sensor, received, quality, value FROM readings WHERE seq >= ? AND seq < ? ORDER BY seq'
    )
    .raw()
  const selectRejects = db
    .prepare<[number, number], [number, Uint8Array]>(
      'SELECT seq, record FROM rejects WHERE seq >= ? AND seq < ? ORDER BY seq'
    )
    .raw()
  const selectEvents = db
    .prepare<[number, number], string>('SELECT record FROM events WHERE seq >= ? AND seq < ? ORDER BY seq')
    .pluck()
  const selectSensor = db.prepare<[number], Sensor>('SELECT id, type, unit FROM sensors WHERE ref = ?')
  const insertBatch = db.prepare(`
    INSERT INTO batches (epoch, lane, batch, first_seq, last_seq, records, wire_bytes, received, digest)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
  const insertWire = db.prepare('INSERT INTO wires (id, wire) VALUES (?, ?)')
  const selectForeign = db.prepare<
    [string],
    { id: number; epoch: string; lane: Lane; received: number; records: number; wire: Uint8Array }
  >(`
    SELECT batches.id, epoch, lane, received, records, wire
    FROM batches
    JOIN wires ON wires.id = batches.id
    WHERE acknowledged = 0 AND epoch <> ?
    ORDER BY batches.id
    LIMIT 1`)
  const markDamaged = db.prepare('UPDATE batches SET acknowledged = 2 WHERE id = ?')
  const deleteBatch = db.prepare('DELETE FROM batches WHERE id = ?')
  const deleteWire = db.prepare('DELETE FROM wires WHERE id = ?')
  const moveSums = db.prepare(
    'UPDATE lanes SET received = received - @records, accepted = accepted - @records, rejected = rejected - @rejected WHERE epoch = @epoch AND lane = @lane'
  )

  function takeReadings(firstSeq: number, endSeq: number): Taken {
    const rows = selectReadings.all(firstSeq, endSeq)
    const rejectRows = new Map(selectRejects.all(firstSeq, endSeq))
    const builder = createColumnBuilder(rows.length)
    const rejects: PlacedReject[] = []
    const sensors = new Map<number, Sensor>()
    let reckonedBytes = 0
    let receivedUs = 0
    function fits(bytes: number): boolean {
      if (reckonedBytes + bytes > options.maxWireBytes && seq > firstSeq) return false
      reckonedBytes += bytes
      return true
    }
    let seq = firstSeq
    let next = 0
    for (; seq < endSeq; seq++) {
      const row = rows[next]
      if (row !== undefined && row[0] === seq) {
        const [, timestampUs, ref, received, quality, value] = row
        if (!fits(reckonedValueBytes(value))) break
        let sensor = sensors.get(ref)
        if (sensor === undefined) {
          sensor = selectSensor.get(ref)
          if (sensor === undefined) throw new Error(`reading ${seq} names sensor ${ref}, which is not in the file`)
          sensors.set(ref, sensor)
        }
        builder.add({ sensor, timestampUs, receivedUs: received, quality, value })
        if (seq === firstSeq) receivedUs = received
        next += 1
        continue
      }
      const record = rejectRows.get(seq)
      if (record === undefined) throw new Error(`record ${seq} is neither a reading nor a reject`)
      if (!fits(record.length)) break
      const reject = parseReject(decode(record))
      rejects.push({ ...reject, position: seq - firstSeq })
      if (seq === firstSeq) receivedUs = reject.receivedUs
    }
    return {
      body: { kind: 'readings', readings: builder.finish(), rejects },
      lastSeq: seq - 1,
      receivedUs,
      reckonedBytes
    }
  }

  function takeEvents(firstSeq: number, endSeq: number): Taken {
    const records = selectEvents.all(firstSeq, endSeq)
    let reckonedBytes = 0
    let count = 0
    for (const record of records) {
      if (reckonedBytes + record.length > options.maxWireBytes && count > 0) break
      reckonedBytes += record.length
      count += 1
    }
    const events = records.slice(0, count).map((record) => maintenanceEvent.parse(JSON.parse(record)))
    return {
      body: { kind: 'maintenance', events },
      lastSeq: firstSeq + count - 1,
      receivedUs: events[0]?.receivedUs ?? 0,
      reckonedBytes
    }
  }

  function store(state: LaneState, firstSeq: number, { body, lastSeq, receivedUs, reckonedBytes }: Taken): Sealed {
    const batch = state.lastBatch + 1
    const records = lastSeq - firstSeq + 1
    const { wire, digest } = sealBatch(
      { gateway: options.gateway, epoch: state.epoch, lane: state.lane, batch, firstSeq, lastSeq, records },
      body,
      state.lastDigest
    )
    const { lastInsertRowid } = insertBatch.run(
      state.epoch,
      state.lane,
      batch,
      firstSeq,
      lastSeq,
      records,
      wire.length,
      receivedUs,
      digest
    )
    insertWire.run(lastInsertRowid, wire)
    state.lastBatch = batch
    state.lastDigest = digest
    return { lane: state.lane, firstSeq, lastSeq, wireBytes: wire.length, reckonedBytes }
  }

  return {
    seal(lane) {
      const state = lanes.current(lane)
      const firstSeq = state.sealedSeq + 1
      const endSeq = Math.min(state.nextSeq, firstSeq + FULL_RECORDS)
      if (endSeq <= firstSeq) return null
      const taken = lane === 'readings' ? takeReadings(firstSeq, endSeq) : takeEvents(firstSeq, endSeq)
      const sealed = store(state, firstSeq, taken)
      state.sealedSeq = taken.lastSeq
      lanes.save(state)
      return sealed
    },
    carryOver() {
      const old = selectForeign.get(lanes.epoch())
      if (old === undefined) return null
      const opened = openWhole(old.wire)
      if (opened === null) {
        markDamaged.run(old.id)
        return 'damaged'
      }
      const { envelope, body } = opened
      const state = lanes.current(old.lane)
      deleteBatch.run(old.id)
      deleteWire.run(old.id)
      const sealed = store(state, envelope.header.firstSeq, {
        body,
        lastSeq: envelope.header.lastSeq,
        receivedUs: old.received,
        reckonedBytes: 0
      })
      const rejected = body.kind === 'readings' ? body.rejects.length : 0
      moveSums.run({ epoch: old.epoch, lane: old.lane, records: old.records, rejected })
      state.received += old.records
      state.accepted += old.records
      state.rejected += rejected
      lanes.save(state)
      return sealed
    }
  }
}

function openWhole(wire: Uint8Array): { envelope: Envelope; body: Body } | null {
  try {
    const envelope = openEnvelope(wire)
    return { envelope, body: openBody(envelope) }
  } catch (error) {
    if (error instanceof AppError) return null
    throw error
  }
}

/** Bytes on the wire that a value is reckoned with. */
export function reckonedValueBytes(value: Value): number {
  return typeof value === 'string' ? RECKONED_READING_BYTES + value.length : RECKONED_READING_BYTES
}
