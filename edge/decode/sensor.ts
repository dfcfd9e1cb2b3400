// Which sensor a value belongs to, and what the payload says of it.
import { MAX_SENSOR_ID_BYTES } from '../../shared/reading.ts'
import { describe } from './reject.ts'
import type { Fault } from './reject.ts'

/** Longest unit or type, in UTF-16 units. */
const LABEL_LENGTH = 100

const CONTROL = /\p{Cc}/u
const CONTROLS = /\p{Cc}+/gu

/** The id that the payload gives: a text, or an integer as its digits; null when absent. Not yet checked, see `checkSensorId`. */
export function readSensorId(source: unknown): string | null | Fault {
  if (source === undefined || source === null) return null
  if (typeof source === 'string' && source !== '') return source
  if (typeof source === 'bigint' || Number.isSafeInteger(source)) return String(source)
  return unreadable(`sensor_id is ${describe(source)}; a text of at least one character is allowed`)
}

/** What is wrong with an id that has all its parts, or null. */
export function checkSensorId(id: string): Fault | null {
  // A UTF-16 unit takes at most three bytes: most ids needn't be measured.
  if (id.length * 3 > MAX_SENSOR_ID_BYTES && Buffer.byteLength(id) > MAX_SENSOR_ID_BYTES) {
    return unreadable(
      `sensor id ${describe(id)} is ${Buffer.byteLength(id)} bytes long; 1 to ${MAX_SENSOR_ID_BYTES} are allowed`
    )
  }
  if (id === '') return unreadable('the sensor id is empty')
  if (CONTROL.test(id)) return unreadable(`sensor id ${describe(id)} holds a control character`)
  if (!id.isWellFormed()) return unreadable(`sensor id ${describe(id)} holds half of a surrogate pair`)
  return null
}

/**
 * A unit or a type. A label never costs a reading: numbers and booleans become texts, control characters a space each
 * run, what is longer than 100 characters is cut, and objects, arrays and blanks count as absent.
 */
export function readLabel(source: unknown): string | null {
  if (source === undefined || source === null || typeof source === 'object') return null
  const label = String(source).replace(CONTROLS, ' ').trim().toWellFormed()
  if (label === '') return null
  if (label.length <= LABEL_LENGTH) return label
  // The cut may halve a surrogate pair, which then isn't kept.
  const end = /[\ud800-\udbff]/.test(label.charAt(LABEL_LENGTH - 1)) ? LABEL_LENGTH - 1 : LABEL_LENGTH
  return label.slice(0, end)
}

function unreadable(detail: string): Fault {
  return { reason: 'sensor_id_unreadable', detail }
}
