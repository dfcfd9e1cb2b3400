// The columns of a batch's readings, typed and grouped: what FORMAT.md calls the body of the lane `readings`, without its rejects.
import { z } from 'zod'
import { AppError } from '../errors.ts'
import type { Sensor } from '../reading.ts'
import { createByteReader, createByteWriter } from './bytes.ts'
import { KIND_NUMBER, KIND_TEXT } from './columns.ts'
import type { ReadingColumns } from './columns.ts'
import { decodeIntegers, encodeIntegers } from './integers.ts'
import type { Prediction } from './integers.ts'
import { decodeNumbers, encodeNumbers } from './numbers.ts'

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'must be bytes')
const sensorEntry = z.tuple([z.string(), z.string().nullable(), z.string().nullable()])

export const readingsColumns = z.object({
  sensors: z.array(sensorEntry),
  order: bytes,
  timestamp: bytes,
  received: bytes,
  quality: bytes,
  kind: bytes,
  number: bytes,
  text: z.array(z.string())
})
export type EncodedReadings = z.infer<typeof readingsColumns>

/** Where each sensor's readings start when grouped, and each reading's place among them. */
function groupPlaces(sensor: Uint32Array, sensors: number): { starts: Uint32Array; place: Uint32Array } {
  const starts = new Uint32Array(sensors + 1)
  for (const index of sensor) starts[index + 1] = (starts[index + 1] ?? 0) + 1
  for (let index = 1; index <= sensors; index++) starts[index] = (starts[index] ?? 0) + (starts[index - 1] ?? 0)
  const next = starts.slice(0, sensors)
  const place = new Uint32Array(sensor.length)
  for (let index = 0; index < sensor.length; index++) {
    const group = sensor[index] ?? 0
    const position = next[group] ?? 0
    place[index] = position
    next[group] = position + 1
  }
  return { starts, place }
}

const receivedPredictions: readonly Prediction[] = [(values, index) => values[index - 1] ?? 0]

/** Timestamps stand in group order: as the arrival time, as the one before, or as the one before and the same step. */
function timestampPredictions(received: Float64Array): readonly Prediction[] {
  return [
    (_values, index) => received[index] ?? 0,
    (values, index) => values[index - 1] ?? 0,
    (values, index) => 2 * (values[index - 1] ?? 0) - (values[index - 2] ?? 0)
  ]
}

export function encodeReadings(readings: ReadingColumns): EncodedReadings {
  const { count, sensors } = readings
  const { starts, place } = groupPlaces(readings.sensor, sensors.length)
  const timestamp = new Float64Array(count)
  const received = new Float64Array(count)
  const number = new Float64Array(count)
  const kind = new Uint8Array(count)
  const quality = createByteWriter(count)
  const qualities = new Int16Array(count)
  const textAt = new Map<number, string>()
  for (let index = 0; index < count; index++) {
    const at = place[index] ?? 0
    timestamp[at] = readings.timestampUs[index] ?? 0
    received[at] = readings.receivedUs[index] ?? 0
    number[at] = readings.number[index] ?? 0
    kind[at] = readings.kind[index] ?? 0
    qualities[at] = readings.quality[index] ?? 0
    const text = readings.texts.get(index)
    if (text !== undefined) textAt.set(at, text)
  }
  for (const code of qualities) quality.unsigned(code)
  return {
    sensors: sensors.map((sensor) => [sensor.id, sensor.type, sensor.unit]),
    order: encodeOrder(readings.sensor, sensors.length),
    timestamp: encodeIntegers(timestamp, timestampPredictions(received)),
    received: encodeIntegers(readings.receivedUs, receivedPredictions),
    quality: quality.finish(),
    kind,
    number: encodeNumbers(numberGroups(number, kind, starts)),
    text: [...textAt.keys()].sort((a, b) => a - b).map((at) => textAt.get(at) ?? '')
  }
}

function numberGroups(number: Float64Array, kind: Uint8Array, starts: Uint32Array): Float64Array[] {
  const groups: Float64Array[] = []
  for (let group = 0; group + 1 < starts.length; group++) {
    const from = starts[group] ?? 0
    const to = starts[group + 1] ?? 0
    const values = number.slice(from, to)
    groups.push(
      kind.subarray(from, to).every((code) => code === KIND_NUMBER)
        ? values
        : values.filter((_value, index) => kind[from + index] === KIND_NUMBER)
    )
  }
  return groups
}

/** @throws AppError `batch_unreadable` unless the columns hold exactly `count` readings. */
export function decodeReadings(columns: EncodedReadings, count: number): ReadingColumns {
  const sensors: Sensor[] = columns.sensors.map(([id, type, unit]) => ({ id, type, unit }))
  const sensor = decodeOrder(columns.order, count, sensors.length)
  const { starts, place } = groupPlaces(sensor, sensors.length)
  const receivedUs = decodeIntegers(columns.received, count, receivedPredictions, 'received')
  const receivedGrouped = new Float64Array(count)
  for (let index = 0; index < count; index++) receivedGrouped[place[index] ?? 0] = receivedUs[index] ?? 0
  const timestamp = decodeIntegers(columns.timestamp, count, timestampPredictions(receivedGrouped), 'timestamp')
  if (columns.kind.length !== count) throw new AppError('batch_unreadable', 'column kind has another length')
  const sizes = groupSizes(columns.kind, starts)
  const numbers = decodeNumbers(columns.number, sizes)
  const number = new Float64Array(count)
  const textAt = new Map<number, string>()
  const texts = columns.text.values()
  for (let group = 0; group < sizes.length; group++) {
    let taken = 0
    for (let at = starts[group] ?? 0; at < (starts[group + 1] ?? 0); at++) {
      const kind = columns.kind[at] ?? 0
      if (kind === KIND_NUMBER) number[at] = numbers[group]?.[taken++] ?? 0
      if (kind === KIND_TEXT) {
        const text = texts.next()
        if (text.done === true) throw new AppError('batch_unreadable', 'column text ends early')
        textAt.set(at, text.value)
      }
      if (kind > KIND_TEXT) throw new AppError('batch_unreadable', `column kind: unknown kind ${kind}`)
    }
  }
  if (texts.next().done !== true) throw new AppError('batch_unreadable', 'column text is longer than its records')
  const qualityReader = createByteReader(columns.quality, 'quality')
  const qualities = new Int16Array(count)
  for (let index = 0; index < count; index++) {
    const code = qualityReader.unsigned()
    if (code > 32_767) throw new AppError('batch_unreadable', `column quality: ${code}`)
    qualities[index] = code
  }
  qualityReader.end()
  const readings: ReadingColumns = {
    count,
    sensors,
    sensor,
    timestampUs: new Float64Array(count),
    receivedUs,
    quality: new Int16Array(count),
    kind: new Uint8Array(count),
    number: new Float64Array(count),
    texts: new Map()
  }
  for (let index = 0; index < count; index++) {
    const at = place[index] ?? 0
    readings.timestampUs[index] = timestamp[at] ?? 0
    readings.quality[index] = qualities[at] ?? 0
    readings.kind[index] = columns.kind[at] ?? 0
    readings.number[index] = number[at] ?? 0
    const text = textAt.size === 0 ? undefined : textAt.get(at)
    if (text !== undefined) readings.texts.set(index, text)
  }
  return readings
}

function groupSizes(kind: Uint8Array, starts: Uint32Array): number[] {
  const sizes: number[] = []
  for (let group = 0; group + 1 < starts.length; group++) {
    let size = 0
    for (let at = starts[group] ?? 0; at < (starts[group + 1] ?? 0); at++) if (kind[at] === KIND_NUMBER) size += 1
    sizes.push(size)
  }
  return sizes
}

/** Which sensor each reading is of: 0 where it is the one that came after the last one the time before, else its index + 1. */
function encodeOrder(sensor: Uint32Array, sensors: number): Uint8Array {
  const writer = createByteWriter(sensor.length + 16)
  const after = new Int32Array(sensors + 1).fill(-1)
  let last = sensors
  for (const index of sensor) {
    writer.unsigned(after[last] === index ? 0 : index + 1)
    after[last] = index
    last = index
  }
  return writer.finish()
}

function decodeOrder(bytes: Uint8Array, count: number, sensors: number): Uint32Array {
  const reader = createByteReader(bytes, 'order')
  const after = new Int32Array(sensors + 1).fill(-1)
  const sensor = new Uint32Array(count)
  let last = sensors
  for (let position = 0; position < count; position++) {
    const code = reader.unsigned()
    const index = code === 0 ? (after[last] ?? -1) : code - 1
    if (index < 0 || index >= sensors) throw new AppError('batch_unreadable', 'column order: no such sensor')
    sensor[position] = index
    after[last] = index
    last = index
  }
  reader.end()
  return sensor
}
