// Columns of whole numbers (µs) as differences. Of several predictions the one that leaves the least is taken.
import { AppError } from '../errors.ts'
import { createByteReader, createByteWriter } from './bytes.ts'

/** Differences beyond this can't be coded exactly; the column is then written as plain doubles. */
const MAX_DIFFERENCE = 2 ** 52

const RAW = 0
const CODED = 1

/** A prediction of element i from the elements before it; the residue is what is stored. */
export type Prediction = (values: Float64Array, index: number) => number

/** The column's residues under the first, second, … prediction: the one with the fewest bits is stored, by its number. */
export function encodeIntegers(values: Float64Array, predictions: readonly Prediction[]): Uint8Array {
  let best = -1
  let bestBits = Number.POSITIVE_INFINITY
  for (const [number, prediction] of predictions.entries()) {
    const bits = bitsLeft(values, prediction)
    if (bits < bestBits) {
      best = number
      bestBits = bits
    }
  }
  const prediction = predictions[best]
  if (prediction === undefined) return encodeRaw(values)
  let unit = 1000
  for (let index = 0; unit > 1 && index < values.length; index++) {
    if (((values[index] ?? 0) - prediction(values, index)) % unit !== 0) unit = 1
  }
  const writer = createByteWriter(values.length * 2 + 16)
  writer.byte(CODED)
  writer.byte(best)
  writer.unsigned(unit)
  for (let index = 0; index < values.length; index++) {
    writer.signed(((values[index] ?? 0) - prediction(values, index)) / unit)
  }
  return writer.finish()
}

/** @throws AppError `batch_unreadable` */
export function decodeIntegers(
  bytes: Uint8Array,
  count: number,
  predictions: readonly Prediction[],
  what: string
): Float64Array {
  const reader = createByteReader(bytes, what)
  const values = new Float64Array(count)
  if (reader.byte() === RAW) {
    const raw = reader.bytes(count * 8)
    new Uint8Array(values.buffer).set(raw)
  } else {
    const prediction = predictions[reader.byte()]
    if (prediction === undefined) throw new AppError('batch_unreadable', `column ${what}: unknown prediction`)
    const unit = reader.unsigned()
    for (let index = 0; index < count; index++) {
      values[index] = prediction(values, index) + reader.signed() * unit
    }
  }
  reader.end()
  for (const value of values) {
    if (!Number.isSafeInteger(value)) throw new AppError('batch_unreadable', `column ${what}: not a whole number of µs`)
  }
  return values
}

function encodeRaw(values: Float64Array): Uint8Array {
  const writer = createByteWriter(values.length * 8 + 1)
  writer.byte(RAW)
  writer.bytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
  return writer.finish()
}

function bitsLeft(values: Float64Array, prediction: Prediction): number {
  let bits = 0
  for (let index = 0; index < values.length; index++) {
    const predicted = prediction(values, index)
    const residue = Math.abs((values[index] ?? 0) - predicted)
    if (residue > MAX_DIFFERENCE || Math.abs(predicted) > Number.MAX_SAFE_INTEGER) return Number.POSITIVE_INFINITY
    bits += residue < 2 ** 31 ? 32 - Math.clz32(residue) : 53
  }
  return bits
}
