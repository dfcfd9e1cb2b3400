// Timestamps of the plant, exact to the microsecond.
//
// A text is ISO 8601 in its extended form with an offset, or digits as below. Digits of the fraction beyond the sixth
// are dropped. 23:59:60 UTC, a leap second, is the first second of the next day, as in POSIX time.
// A number is an epoch time; its size tells the unit (up to the year 5138 and, but for seconds, back to 1973):
//   below 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds.
// Nanoseconds are cut to microseconds; a number with a fraction is rounded to the nearest microsecond, which is the one
// that was written until the year 2106 (there a double's seconds get coarser than that).
import { MAX_TIMESTAMP_US } from '../../shared/reading.ts'
import { describe } from './reject.ts'
import type { Fault } from './reject.ts'

const MILLISECONDS_FROM = 1e11
const MICROSECONDS_FROM = 1e14
const NANOSECONDS_FROM = 1e17

/** The years that hold ±2^53 µs. */
const FIRST_YEAR = 1684
const LAST_YEAR = 2255

/** Longer texts are no timestamps; keeps a 200 kB fraction from being carried. */
const TEXT_LENGTH = 64

const NUMERIC = /^[+-]?\d+(?:\.\d+)?$/
const EXPANDED_YEAR = /^[+-]\d{6}-/
const WITHOUT_OFFSET = /^(?:[+-]\d\d)?\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?$/

/**
 * The time in µs since 1970-01-01T00:00:00Z; null when the source gave none (absent or JSON null).
 * Integers beyond 2^53 come as bigint, with all their digits.
 */
export function readTimestamp(source: unknown): number | null | Fault {
  if (source === undefined || source === null) return null
  if (typeof source === 'string') return fromText(source)
  if (typeof source === 'number') return inRange(fromNumber(source), source)
  if (typeof source === 'bigint') return inRange(fromBigint(source), source)
  return unreadable(source, FORMS)
}

const FORMS = 'write ISO 8601 with an offset, such as 2026-11-22T01:02:03.456Z, or an epoch time in s, ms, µs or ns'

function fromText(source: string): number | Fault {
  const text = source.trim()
  if (text.length <= TEXT_LENGTH) {
    const isoUs = text.charCodeAt(4) === HYPHEN || EXPANDED_YEAR.test(text) ? fromIso(text) : null
    if (isoUs !== null) return inRange(isoUs, source)
    if (NUMERIC.test(text)) {
      return inRange(text.includes('.') ? fromNumber(Number(text)) : fromBigint(BigInt(text.replace('+', ''))), source)
    }
    if (WITHOUT_OFFSET.test(text)) {
      return unreadable(source, 'it has no offset from UTC, so its time is unknown; end it with Z or with +01:00')
    }
  }
  return unreadable(source, FORMS)
}

function fromNumber(time: number): number {
  const size = Math.abs(time)
  if (size < MILLISECONDS_FROM) return Math.round(time * 1e6)
  if (size < MICROSECONDS_FROM) return Math.round(time * 1e3)
  if (size < NANOSECONDS_FROM) return Math.round(time)
  return Math.floor(time / 1e3)
}

function fromBigint(time: bigint): number {
  const size = time < 0n ? -time : time
  if (size < NANOSECONDS_FROM) return fromNumber(Number(time))
  // BigInt division drops toward zero; a remainder below 1970 belongs to the microsecond before.
  const cutUs = time / 1000n
  return Number(time < 0n && time % 1000n !== 0n ? cutUs - 1n : cutUs)
}

const HYPHEN = 45
const PLUS = 43
const COLON = 58
const ZERO = 48

/** µs of `YYYY-MM-DDThh:mm[:ss[.f…]](Z|±hh[[:]mm])`, year also as ±YYYYYY; ±Infinity out of range, null when it isn't that. */
function fromIso(text: string): number | null {
  const isExpanded = text.charCodeAt(4) !== HYPHEN || text.charCodeAt(0) === HYPHEN || text.charCodeAt(0) === PLUS
  const date = isExpanded ? 7 : 4
  const year = isExpanded ? Number(text.slice(0, 7)) : twoDigits(text, 0) * 100 + twoDigits(text, 2)
  const month = twoDigits(text, date + 1)
  const day = twoDigits(text, date + 4)
  const hour = twoDigits(text, date + 7)
  const minute = twoDigits(text, date + 10)
  const divider = text.charCodeAt(date + 6)
  const isDivided =
    text.charCodeAt(date) === HYPHEN &&
    text.charCodeAt(date + 3) === HYPHEN &&
    (divider === 84 || divider === 32 || divider === 116) &&
    text.charCodeAt(date + 9) === COLON
  // twoDigits gives NaN for anything else, which fails every comparison.
  if (!isDivided || !(month >= 1 && month <= 12 && day >= 1 && hour <= 23 && minute <= 59)) return null
  if (Number.isNaN(year) || day > daysOf(year, month)) return null

  let at = date + 12
  let second = 0
  let fractionUs = 0
  if (text.charCodeAt(at) === COLON) {
    second = twoDigits(text, at + 1)
    if (!(second <= 60)) return null
    at += 3
    const point = text.charCodeAt(at)
    if (point === 46 || point === 44) {
      const from = at + 1
      let weight = 100_000
      for (at = from; isDigit(text.charCodeAt(at)); at += 1) {
        fractionUs += (text.charCodeAt(at) - ZERO) * weight
        weight = weight === 1 ? 0 : weight / 10
      }
      if (at === from) return null
    }
  }
  const offsetMinutes = readOffset(text, at)
  if (offsetMinutes === null) return null
  if (year < FIRST_YEAR) return -Infinity
  if (year > LAST_YEAR) return Infinity
  const seconds = Date.UTC(year, month - 1, day, hour, minute) / 1000 - offsetMinutes * 60 + second
  if (second === 60 && seconds % 86_400 !== 0) return null
  return seconds * 1e6 + fractionUs
}

/** Minutes east of UTC of the offset that fills the text from `at`, one space before it allowed; else null. */
function readOffset(text: string, at: number): number | null {
  const start = text.charCodeAt(at) === 32 ? at + 1 : at
  const sign = text.charCodeAt(start)
  if (sign === 90 || sign === 122) return text.length === start + 1 ? 0 : null
  if (sign !== PLUS && sign !== HYPHEN) return null
  const hours = twoDigits(text, start + 1)
  const minutesAt = text.charCodeAt(start + 3) === COLON ? start + 4 : start + 3
  const isHoursOnly = text.length === start + 3
  const minutes = isHoursOnly ? 0 : twoDigits(text, minutesAt)
  if (!(hours <= 23 && minutes <= 59) || (!isHoursOnly && text.length !== minutesAt + 2)) return null
  return (sign === PLUS ? 1 : -1) * (hours * 60 + minutes)
}

function daysOf(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

function isDigit(code: number): boolean {
  return code >= ZERO && code <= ZERO + 9
}

function twoDigits(text: string, at: number): number {
  const tens = text.charCodeAt(at)
  const ones = text.charCodeAt(at + 1)
  return isDigit(tens) && isDigit(ones) ? (tens - ZERO) * 10 + ones - ZERO : Number.NaN
}

function inRange(timeUs: number, source: unknown): number | Fault {
  // Adding 0 turns -0 into 0.
  if (timeUs >= -MAX_TIMESTAMP_US && timeUs <= MAX_TIMESTAMP_US) return timeUs + 0
  const detail = `timestamp ${describe(source)} can't be carried; 1684-07-28 to 2255-06-05 can`
  return { reason: 'timestamp_out_of_range', detail }
}

function unreadable(source: unknown, way: string): Fault {
  return { reason: 'timestamp_unreadable', detail: `timestamp ${describe(source)} can't be read: ${way}` }
}
