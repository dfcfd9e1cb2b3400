// Readings as columns: the one form in which they wait in the intake, are appended, sealed, and written by the bridge.
// All arrays have `count` elements, in seq order.
import type { Sensor, Value } from '../reading.ts'

export const KIND_NUMBER = 0
export const KIND_NULL = 1
export const KIND_TEXT = 2

export type ReadingColumns = {
  count: number
  /** Each sensor once; `sensor` points into it. */
  sensors: Sensor[]
  sensor: Uint32Array
  timestampUs: Float64Array
  receivedUs: Float64Array
  /** OPC quality codes. */
  quality: Int16Array
  /** KIND_NUMBER, KIND_NULL or KIND_TEXT. */
  kind: Uint8Array
  /** Where the kind is KIND_NUMBER; else 0. */
  number: Float64Array
  /** By position, where the kind is KIND_TEXT. */
  texts: Map<number, string>
}

export type ColumnBuilder = {
  readonly count: number
  add(reading: { sensor: Sensor; timestampUs: number; receivedUs: number; quality: number; value: Value }): void
  /** The columns so far, trimmed; the builder must not be used afterwards. */
  finish(): ReadingColumns
}

/** Collects readings; grows as needed. Type and unit of a sensor: the last ones said win. */
export function createColumnBuilder(capacity = 64): ColumnBuilder {
  let size = Math.max(1, capacity)
  let count = 0
  const sensors: Sensor[] = []
  const positions = new Map<string, number>()
  let sensor = new Uint32Array(size)
  let timestampUs = new Float64Array(size)
  let receivedUs = new Float64Array(size)
  let quality = new Int16Array(size)
  let kind = new Uint8Array(size)
  let number = new Float64Array(size)
  const texts = new Map<number, string>()

  function grow(): void {
    size *= 2
    sensor = enlarged(sensor, new Uint32Array(size))
    timestampUs = enlarged(timestampUs, new Float64Array(size))
    receivedUs = enlarged(receivedUs, new Float64Array(size))
    quality = enlarged(quality, new Int16Array(size))
    kind = enlarged(kind, new Uint8Array(size))
    number = enlarged(number, new Float64Array(size))
  }

  function positionOf(wanted: Sensor): number {
    const known = positions.get(wanted.id)
    if (known === undefined) {
      positions.set(wanted.id, sensors.length)
      sensors.push(wanted)
      return sensors.length - 1
    }
    const before = sensors[known]
    if (before !== undefined && before !== wanted && (wanted.type !== null || wanted.unit !== null)) {
      sensors[known] = { id: wanted.id, type: wanted.type ?? before.type, unit: wanted.unit ?? before.unit }
    }
    return known
  }

  return {
    get count() {
      return count
    },
    add(reading) {
      if (count === size) grow()
      sensor[count] = positionOf(reading.sensor)
      timestampUs[count] = reading.timestampUs
      receivedUs[count] = reading.receivedUs
      quality[count] = reading.quality
      if (typeof reading.value === 'number') {
        number[count] = reading.value
      } else if (reading.value === null) {
        kind[count] = KIND_NULL
      } else {
        kind[count] = KIND_TEXT
        texts.set(count, reading.value)
      }
      count += 1
    },
    finish: () => ({
      count,
      sensors,
      sensor: sensor.subarray(0, count),
      timestampUs: timestampUs.subarray(0, count),
      receivedUs: receivedUs.subarray(0, count),
      quality: quality.subarray(0, count),
      kind: kind.subarray(0, count),
      number: number.subarray(0, count),
      texts
    })
  }
}

function enlarged<Column extends { set(from: Column): void }>(from: Column, into: Column): Column {
  into.set(from)
  return into
}

/** The value of the reading at `position`. */
export function valueAt(columns: ReadingColumns, position: number): Value {
  const kind = columns.kind[position]
  if (kind === KIND_NULL) return null
  if (kind === KIND_TEXT) return columns.texts.get(position) ?? ''
  return columns.number[position] ?? 0
}
