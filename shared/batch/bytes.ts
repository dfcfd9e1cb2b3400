// Growing byte buffers with variable-length integers (LEB128), for columns of small numbers.
import { AppError } from '../errors.ts'

const LIMIT = Number.MAX_SAFE_INTEGER

export type ByteWriter = {
  /** A whole number from 0 to 2^53 − 1. */
  unsigned(value: number): void
  /** A whole number from −2^52 to 2^52, zigzag-coded. */
  signed(value: number): void
  byte(value: number): void
  bytes(value: Uint8Array): void
  finish(): Uint8Array
}

export function createByteWriter(capacityBytes = 1_024): ByteWriter {
  let buffer = new Uint8Array(capacityBytes)
  let length = 0
  function reserve(extra: number): void {
    if (length + extra <= buffer.length) return
    const larger = new Uint8Array(Math.max(buffer.length * 2, length + extra))
    larger.set(buffer.subarray(0, length))
    buffer = larger
  }
  function unsigned(value: number): void {
    reserve(8)
    let rest = value
    while (rest > 0x7fffffff) {
      buffer[length++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    while (rest > 127) {
      buffer[length++] = (rest & 127) | 128
      rest >>>= 7
    }
    buffer[length++] = rest
  }
  return {
    unsigned,
    signed(value) {
      unsigned(value < 0 ? -2 * value - 1 : 2 * value)
    },
    byte(value) {
      reserve(1)
      buffer[length++] = value
    },
    bytes(value) {
      reserve(value.length)
      buffer.set(value, length)
      length += value.length
    },
    finish: () => buffer.subarray(0, length)
  }
}

export type ByteReader = {
  unsigned(): number
  signed(): number
  byte(): number
  bytes(count: number): Uint8Array
  /** @throws AppError `batch_unreadable` unless all was read. */
  end(): void
}

/** Every method throws AppError `batch_unreadable` past the end, and on numbers over 2^53 − 1. */
export function createByteReader(buffer: Uint8Array, what: string): ByteReader {
  let position = 0
  function fail(problem: string): never {
    throw new AppError('batch_unreadable', `column ${what}: ${problem}`)
  }
  function byte(): number {
    const value = buffer[position]
    if (value === undefined) fail('ends early')
    position += 1
    return value
  }
  function unsigned(): number {
    let value = byte()
    if (value < 128) return value
    value &= 127
    let factor = 128
    for (;;) {
      const next = byte()
      value += (next & 127) * factor
      if (value > LIMIT) fail('a number is over 2^53')
      if (next < 128) return value
      factor *= 128
    }
  }
  return {
    unsigned,
    signed() {
      const value = unsigned()
      return value % 2 === 0 ? value / 2 : -(value + 1) / 2
    },
    byte,
    bytes(count) {
      if (position + count > buffer.length) fail('ends early')
      position += count
      return buffer.subarray(position - count, position)
    },
    end() {
      if (position !== buffer.length) fail('is longer than its records')
    }
  }
}
