// Takes a group of decoded records into the buffer, inside the caller's transaction.
//
// A reading whose key (timestamp, sensor) is known with the same value and quality is a duplicate: counted, not kept. The same
// key with another value or quality is a conflict: kept as a reject. Events are told apart by their id in the same way.
import { encode } from 'cborg'
import { z } from 'zod'
import { KIND_NUMBER, valueAt } from '../../shared/batch/columns.ts'
import type { ReadingColumns } from '../../shared/batch/columns.ts'
import { codeOf } from '../../shared/errors.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import { MAX_RECORD_BYTES } from '../../shared/reading.ts'
import type { Reject, Sensor, Value } from '../../shared/reading.ts'
import type { BufferFile } from './file.ts'
import type { Lanes, LaneState } from './lanes.ts'

/** What one group commit takes in. */
export type Group = {
  readings: ReadingColumns
  rejects: Reject[]
  events: MaintenanceEvent[]
  /** Records that a policy left out, counted. */
  filtered: number
  /** The highest arrival time given to one of the readings as its timestamp, µs; 0 when none was. */
  stampedUs: number
  /** QoS 2 packets whose records are in this group. */
  packets: { client: string; packet: number; digest: string }[]
}

export type Appender = {
  /** The lanes' sums and seqs change in memory: the caller saves them in the same transaction. */
  append(group: Group): void
  /** After a rollback: what was learned in the transaction may not be in the file. */
  forget(): void
}

const sensorRow = z.object({ ref: z.number(), type: z.string().nullable(), unit: z.string().nullable() })
const storedReading = z.object({ value: z.union([z.number(), z.string(), z.null()]), quality: z.number() })

/** Rows in one statement. */
const ROWS_AT_ONCE = 32

/** How many sensors are remembered; beyond, they are looked up again. */
const MAX_KNOWN_SENSORS = 100_000

export function createAppender(db: BufferFile, lanes: Lanes, newId: () => string): Appender {
  const insertReading = db.prepare(`
    INSERT INTO readings (seq, timestamp, sensor, received, quality, value)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (timestamp, sensor) DO NOTHING`)
  const insertReadings = db.prepare(`
    INSERT INTO readings (seq, timestamp, sensor, received, quality, value)
    VALUES ${Array.from({ length: ROWS_AT_ONCE }, () => '(?, ?, ?, ?, ?, ?)').join(', ')}`)
  const selectReading = db.prepare('SELECT value, quality FROM readings WHERE timestamp = ? AND sensor = ?')
  const insertReject = db.prepare('INSERT INTO rejects (seq, record) VALUES (?, ?)')
  const insertEvent = db.prepare('INSERT INTO events (seq, id, record) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING')
  const selectEvent = db.prepare('SELECT record FROM events WHERE id = ?').pluck()
  const selectSensor = db.prepare('SELECT ref, type, unit FROM sensors WHERE id = ?')
  const insertSensor = db.prepare('INSERT INTO sensors (id, type, unit) VALUES (?, ?, ?)')
  const updateSensor = db.prepare('UPDATE sensors SET type = ?, unit = ? WHERE ref = ?')
  const insertPacket = db.prepare('INSERT OR REPLACE INTO packets (client, packet, digest) VALUES (?, ?, ?)')
  const known = new Map<string, { ref: number; type: string | null; unit: string | null }>()
  /** What was looked up for exactly this object: the same sensor comes as the same object again and again. */
  let refs = new WeakMap<Sensor, number>()

  function refOf(sensor: Sensor): number {
    const ref = refs.get(sensor) ?? findRef(sensor)
    refs.set(sensor, ref)
    return ref
  }

  function findRef(sensor: Sensor): number {
    let entry = known.get(sensor.id)
    if (entry === undefined) {
      const row = selectSensor.get(sensor.id)
      entry =
        row === undefined
          ? {
              ref: Number(insertSensor.run(sensor.id, sensor.type, sensor.unit).lastInsertRowid),
              type: sensor.type,
              unit: sensor.unit
            }
          : sensorRow.parse(row)
      if (known.size >= MAX_KNOWN_SENSORS) known.clear()
      known.set(sensor.id, entry)
    }
    const type = sensor.type ?? entry.type
    const unit = sensor.unit ?? entry.unit
    if (type !== entry.type || unit !== entry.unit) {
      updateSensor.run(type, unit, entry.ref)
      known.set(sensor.id, { ref: entry.ref, type, unit })
    }
    return entry.ref
  }

  function addReject(state: LaneState, reject: Reject): void {
    insertReject.run(state.nextSeq, encode(reject))
    state.nextSeq += 1
    state.accepted += 1
    state.rejected += 1
  }

  /** The columns of `readings` from `first` on, `count` rows of them, with the next seqs. */
  function rowsOf(state: LaneState, readings: ReadingColumns, first: number, count: number): Value[] {
    const { sensors, sensor, timestampUs, receivedUs, quality, kind, number } = readings
    const rows: Value[] = []
    for (let index = first; index < first + count; index++) {
      const named = sensors[sensor[index] ?? 0]
      if (named === undefined) throw new Error('a reading without a sensor')
      const value = kind[index] === KIND_NUMBER ? (number[index] ?? 0) : valueAt(readings, index)
      rows.push(
        state.nextSeq + index - first,
        timestampUs[index] ?? 0,
        refOf(named),
        receivedUs[index] ?? 0,
        quality[index] ?? 0,
        value
      )
    }
    return rows
  }

  function addReadings(state: LaneState, readings: ReadingColumns): void {
    let index = 0
    while (index < readings.count) {
      const count = Math.min(ROWS_AT_ONCE, readings.count - index)
      if (count < ROWS_AT_ONCE || !addAtOnce(state, rowsOf(state, readings, index, count))) {
        for (let at = index; at < index + count; at++) addReading(state, readings, at)
      }
      index += count
    }
  }

  /** Several rows by one statement, in half the time; false, and nothing added, when a key among them is taken. */
  function addAtOnce(state: LaneState, rows: Value[]): boolean {
    try {
      insertReadings.run(rows)
    } catch (error) {
      if (codeOf(error) === 'SQLITE_CONSTRAINT_UNIQUE') return false
      throw error
    }
    state.nextSeq += ROWS_AT_ONCE
    state.accepted += ROWS_AT_ONCE
    return true
  }

  function addReading(state: LaneState, readings: ReadingColumns, index: number): void {
    const row = rowsOf(state, readings, index, 1)
    if (insertReading.run(row).changes === 1) {
      state.nextSeq += 1
      state.accepted += 1
      return
    }
    const [, timestamp, ref, , quality, value] = row
    const before = storedReading.parse(selectReading.get(timestamp, ref))
    if (before.value === value && before.quality === quality) state.duplicate += 1
    else addReject(state, conflictOf(readings, index, before.value))
  }

  function conflictOf(readings: ReadingColumns, index: number, before: Value): Reject {
    const id = readings.sensors[readings.sensor[index] ?? 0]?.id ?? ''
    const timestampUs = readings.timestampUs[index] ?? 0
    const record = JSON.stringify({
      sensor_id: id,
      timestamp_us: timestampUs,
      value: valueAt(readings, index),
      quality: readings.quality[index]
    })
    return cutReject({
      id: newId(),
      reason: 'conflict',
      detail: `${id} has another reading at ${timestampUs} µs: ${shown(before)}; this one says ${shown(valueAt(readings, index))}`,
      topic: id,
      payload: Buffer.from(record),
      receivedUs: readings.receivedUs[index] ?? 0
    })
  }

  function addEvents(state: LaneState, rejectState: LaneState, events: MaintenanceEvent[]): void {
    for (const event of events) {
      const record = JSON.stringify(event)
      if (insertEvent.run(state.nextSeq, event.id, record).changes === 1) {
        state.nextSeq += 1
        state.accepted += 1
        continue
      }
      if (factOf(String(selectEvent.get(event.id))) === factOf(record)) {
        state.duplicate += 1
        continue
      }
      // The conflict is a reject, and rejects travel in the lane of readings.
      state.received -= 1
      rejectState.received += 1
      addReject(
        rejectState,
        cutReject({
          id: newId(),
          reason: 'conflict',
          detail: `the event ${event.id} came before with other content`,
          topic: event.topic,
          payload: Buffer.from(record),
          receivedUs: event.receivedUs
        })
      )
    }
  }

  return {
    append(group) {
      const readings = lanes.current('readings')
      const maintenance = lanes.current('maintenance')
      readings.received += group.readings.count + group.rejects.length + group.filtered
      readings.filtered += group.filtered
      readings.stamped = Math.max(readings.stamped, group.stampedUs)
      maintenance.received += group.events.length
      addReadings(readings, group.readings)
      for (const reject of group.rejects) addReject(readings, reject)
      addEvents(maintenance, readings, group.events)
      for (const { client, packet, digest } of group.packets) insertPacket.run(client, packet, digest)
    },
    forget() {
      known.clear()
      refs = new WeakMap()
    }
  }
}

/** An event without what differs between two deliveries of it. */
function factOf(record: string): string {
  return JSON.stringify({ ...z.record(z.string(), z.unknown()).parse(JSON.parse(record)), receivedUs: 0 })
}

function shown(value: Value): string {
  const text = JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

function cutReject(reject: Omit<Reject, 'payloadBytes' | 'payloadSha256'>): Reject {
  return {
    ...reject,
    payload: reject.payload.subarray(0, MAX_RECORD_BYTES),
    payloadBytes: reject.payload.length,
    payloadSha256: null
  }
}
