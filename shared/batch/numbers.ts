// A sensor's values as differences of scaled whole numbers where that is exact (21.5, 21.75 → 2150, +25), else as plain doubles
// in byte planes, which compress better than whole doubles.
import { AppError } from '../errors.ts'
import { createByteReader, createByteWriter } from './bytes.ts'

const MAX_DECIMALS = 9
const MAX_SCALED = 2 ** 51
const PLAIN = 255
const POWERS = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9] as const

/** The fewest decimals with which every value is exactly a scaled whole number, or null. −0 has none. */
function decimalsOf(values: Float64Array): number | null {
  let decimals = 0
  for (let index = 0; index < values.length; index++) {
    const value = values[index] ?? 0
    for (;;) {
      const power = POWERS[decimals]
      if (power === undefined) return null
      const scaled = Math.round(value * power)
      if (Math.abs(scaled) > MAX_SCALED) return null
      if (Object.is(scaled / power, value) && !Object.is(scaled, -0)) break
      if (decimals === MAX_DECIMALS) return null
      decimals += 1
      index = -1
      break
    }
  }
  return decimals
}

/** Groups of values, one a sensor, into one column. Values are finite. */
export function encodeNumbers(groups: readonly Float64Array[]): Uint8Array {
  const modes = createByteWriter(groups.length + 8)
  const coded = createByteWriter()
  const plain: Float64Array[] = []
  let plainCount = 0
  for (const group of groups) {
    const decimals = decimalsOf(group)
    if (decimals === null) {
      modes.byte(PLAIN)
      plain.push(group)
      plainCount += group.length
      continue
    }
    modes.byte(decimals)
    const power = POWERS[decimals] ?? 1
    let before = 0
    for (const value of group) {
      const scaled = Math.round(value * power)
      coded.signed(scaled - before)
      before = scaled
    }
  }
  const codedBytes = coded.finish()
  const writer = createByteWriter(codedBytes.length + groups.length + plainCount * 8 + 16)
  writer.bytes(modes.finish())
  writer.unsigned(codedBytes.length)
  writer.bytes(codedBytes)
  writer.bytes(planesOf(plain, plainCount))
  return writer.finish()
}

/** `sizes`: how many values each group has. @throws AppError `batch_unreadable` */
export function decodeNumbers(bytes: Uint8Array, sizes: readonly number[]): Float64Array[] {
  const reader = createByteReader(bytes, 'numbers')
  const modes = reader.bytes(sizes.length)
  const coded = createByteReader(reader.bytes(reader.unsigned()), 'numbers')
  let plainCount = 0
  for (const [index, size] of sizes.entries()) if (modes[index] === PLAIN) plainCount += size
  const plain = fromPlanes(reader.bytes(plainCount * 8), plainCount)
  reader.end()
  let taken = 0
  const groups = sizes.map((size, index) => {
    const mode = modes[index] ?? PLAIN
    if (mode === PLAIN) {
      taken += size
      return plain.subarray(taken - size, taken)
    }
    const power = POWERS[mode]
    if (power === undefined) throw new AppError('batch_unreadable', `column numbers: ${mode} decimals`)
    const values = new Float64Array(size)
    let scaled = 0
    for (let position = 0; position < size; position++) {
      scaled += coded.signed()
      values[position] = scaled / power
    }
    return values
  })
  coded.end()
  for (const group of groups) {
    for (const value of group)
      if (!Number.isFinite(value)) throw new AppError('batch_unreadable', 'column numbers: not finite')
  }
  return groups
}

function planesOf(groups: readonly Float64Array[], count: number): Uint8Array {
  const planes = new Uint8Array(count * 8)
  let position = 0
  for (const group of groups) {
    const bytes = new Uint8Array(group.buffer, group.byteOffset, group.byteLength)
    for (let index = 0; index < group.length; index++, position++) {
      for (let plane = 0; plane < 8; plane++) planes[plane * count + position] = bytes[index * 8 + plane] ?? 0
    }
  }
  return planes
}

function fromPlanes(planes: Uint8Array, count: number): Float64Array {
  const values = new Float64Array(count)
  const bytes = new Uint8Array(values.buffer)
  for (let position = 0; position < count; position++) {
    for (let plane = 0; plane < 8; plane++) bytes[position * 8 + plane] = planes[plane * count + position] ?? 0
  }
  return values
}
