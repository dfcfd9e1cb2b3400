// What could not be read, kept to be mended: a fault says why, a reject adds what came in.
import { createHash } from 'node:crypto'
import { MAX_RECORD_BYTES } from '../../shared/reading.ts'
import type { Reject, RejectReason } from '../../shared/reading.ts'

/** Why something could not be read. `detail` is for a person: what was wrong, on what, what is allowed. */
export type Fault = { reason: RejectReason; detail: string }

/** The part of a message that a reject needs. */
export type RejectSource = { topic: string; receivedUs: number; newId: () => string }

const DETAIL_LENGTH = 500
const QUOTE_LENGTH = 80

/** C0 and C1 controls, line and paragraph separators, and the marks that turn the direction of writing. */
const UNPRINTABLE = /[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu

/** Tells a fault from what a reading function gives when all is well: numbers, texts and null. */
export function isFault(result: number | string | null | Fault): result is Fault {
  return typeof result === 'object' && result !== null
}

/** `payload` is copied: it may be a view into a socket's buffer. Beyond `MAX_RECORD_BYTES` it is cut. */
export function createReject(source: RejectSource, fault: Fault, payload: Uint8Array): Reject {
  const isCut = payload.length > MAX_RECORD_BYTES
  return {
    id: source.newId(),
    reason: fault.reason,
    detail: cut(makePrintable(fault.detail), DETAIL_LENGTH),
    topic: source.topic,
    payload: new Uint8Array(isCut ? payload.subarray(0, MAX_RECORD_BYTES) : payload),
    payloadBytes: payload.length,
    payloadSha256: isCut ? createHash('sha256').update(payload).digest('hex') : null,
    receivedUs: source.receivedUs
  }
}

/** A decoded JSON value as it is named in a detail: texts in quotes, long ones cut, containers by their kind. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return quote(value)
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object' && value !== null) return 'an object'
  return cut(String(value), QUOTE_LENGTH)
}

function quote(text: string): string {
  return makePrintable(JSON.stringify(cut(text, QUOTE_LENGTH)))
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1).toWellFormed()}…`
}

function makePrintable(text: string): string {
  const printable = text.replace(UNPRINTABLE, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`)
  return printable.toWellFormed()
}
