// Values and qualities: what stands at `value` and `quality` of an object, and a payload that is a bare scalar.
import { MAX_RECORD_BYTES, QUALITY_BAD, QUALITY_GOOD, QUALITY_UNCERTAIN } from '../../shared/reading.ts'
import type { Value } from '../../shared/reading.ts'
import { isLongInteger } from './json.ts'
import { describe } from './reject.ts'
import type { Fault } from './reject.ts'

const MAX_QUALITY = 32_767

const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/
const NOT_FINITE = /^[+-]?(?:nan|inf|infinity)$/i

/**
 * A finite double as it is, true and false as 1 and 0, a text as it is (one of digits too), null as null.
 * Integers beyond 2^53 come as bigint and become texts of their digits.
 */
export function readValue(source: unknown): Value | Fault {
  if (typeof source === 'number') return Number.isFinite(source) ? source : notFinite('a number')
  if (typeof source === 'string') return readTextValue(source)
  if (typeof source === 'boolean') return source ? 1 : 0
  if (typeof source === 'bigint') return readTextValue(String(source))
  if (source === null) return null
  const detail = `value is ${describe(source)}; a number, boolean, text or null is allowed`
  return { reason: 'value_unreadable', detail }
}

/**
 * A payload that is neither object nor array, `text` without the white space around it being `trimmed`, not empty.
 * What isn't JSON is a text, as it came; but `NaN` and its like are faults, not texts.
 */
export function readBareValue(text: string, trimmed: string): Value | Fault {
  if (trimmed === 'true') return 1
  if (trimmed === 'false') return 0
  if (trimmed === 'null') return null
  if (JSON_NUMBER.test(trimmed)) {
    const number = Number(trimmed)
    if (!Number.isSafeInteger(number) && isLongInteger(trimmed)) return readTextValue(trimmed)
    return readValue(number)
  }
  if (NOT_FINITE.test(trimmed)) return notFinite(describe(trimmed))
  return readTextValue(trimmed.startsWith('"') ? (unquote(trimmed) ?? text) : text)
}

/** OPC codes as they are; good, uncertain, bad in any case; true good, false bad. Absent or null: null. */
export function readQuality(source: unknown): number | null | Fault {
  if (source === undefined || source === null) return null
  if (typeof source === 'number' && Number.isInteger(source) && source >= 0 && source <= MAX_QUALITY) return source + 0
  if (typeof source === 'boolean') return source ? QUALITY_GOOD : QUALITY_BAD
  if (typeof source === 'string') {
    const word = source.trim().toLowerCase()
    if (word === 'good') return QUALITY_GOOD
    if (word === 'uncertain') return QUALITY_UNCERTAIN
    if (word === 'bad') return QUALITY_BAD
    if (/^\d{1,5}$/.test(word) && Number(word) <= MAX_QUALITY) return Number(word)
  }
  const allowed = `an OPC code from 0 to ${MAX_QUALITY}, good, uncertain, bad, true or false is allowed`
  return { reason: 'quality_unreadable', detail: `quality is ${describe(source)}; ${allowed}` }
}

/** The quality where the source gave none. */
export function defaultQuality(value: Value): number {
  return value === null ? QUALITY_BAD : QUALITY_GOOD
}

function readTextValue(text: string): string | Fault {
  if (!text.isWellFormed()) {
    const detail = `value ${describe(text)} holds half of a surrogate pair, which no UTF-8 text can carry`
    return { reason: 'value_unreadable', detail }
  }
  // A UTF-16 unit takes at most three bytes: most texts needn't be measured.
  if (text.length * 3 > MAX_RECORD_BYTES && Buffer.byteLength(text) > MAX_RECORD_BYTES) {
    const detail = `the text value is ${Buffer.byteLength(text)} bytes long; ${MAX_RECORD_BYTES} are allowed`
    return { reason: 'record_too_large', detail }
  }
  return text
}

function unquote(text: string): string | null {
  try {
    return String(JSON.parse(text))
  } catch {
    // No JSON string after all: a text that happens to begin with a quote.
    return null
  }
}

function notFinite(what: string): Fault {
  return { reason: 'value_unreadable', detail: `value is ${what} that no finite double can hold` }
}
