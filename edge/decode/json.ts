// JSON as it stands in a payload: parsed without losing digits, measured before it is parsed, and taken apart into the
// source texts of its items, so that what is rejected is kept as it came.

/** Containers within containers. */
export const MAX_DEPTH = 32

/** Where an integer beyond 2^53 may stand: 16 digits from 9007199254740992 on, or more of them. */
const LONG_INTEGER = /9\d{15}|\d{17}/
const INTEGER = /^-?\d+$/
const TWO_TO_53 = /^-?9007199254740992$/

export type JsonObject = Record<string, unknown>

/** A JSON object, as opposed to an array, a scalar or null. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * Parses JSON. Integers beyond 2^53 come as bigint with all their digits; all other numbers as doubles, `1e400` as
 * Infinity. Of a name that stands twice in an object the last counts.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  // A reviver costs several times the parsing: only where a long integer may stand.
  const parsed: unknown = LONG_INTEGER.test(text) ? JSON.parse(text, keepLongInteger) : JSON.parse(text)
  return parsed
}

function keepLongInteger(_key: string, value: unknown, ...[context]: [{ source?: string }?]): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
  const source = context?.source ?? ''
  return isLongInteger(source) ? BigInt(source) : value
}

/** A number's source text that is an integer beyond ±2^53, given that it isn't a safe integer. */
export function isLongInteger(source: string): boolean {
  return INTEGER.test(source) && !TWO_TO_53.test(source)
}

/** Nested deeper than `MAX_DEPTH`; of text that isn't JSON any answer may come. Runs without recursion. */
export function isTooDeep(text: string): boolean {
  // Each level takes a bracket at either end.
  if (text.length <= 2 * MAX_DEPTH) return false
  let depth = 0
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) at = endOfString(text, at)
    else if (isOpening(code)) {
      depth += 1
      if (depth > MAX_DEPTH) return true
    } else if (isClosing(code)) depth -= 1
  }
  return false
}

/**
 * The source texts of the elements of an array, or of the members (`"name": value`) of an object, in order, without
 * the white space around them. `text` is valid JSON of an array or object, trimmed.
 */
export function splitItems(text: string): string[] {
  const items: string[] = []
  let depth = 0
  let start = 1
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) at = endOfString(text, at)
    else if (isOpening(code)) depth += 1
    else if (isClosing(code)) depth -= 1
    else if (code === COMMA && depth === 1) {
      items.push(text.slice(start, at).trim())
      start = at + 1
    }
  }
  const last = text.slice(start, -1).trim()
  if (last !== '') items.push(last)
  return items
}

/** Name and source text of the value of a member as `splitItems` gives it. */
export function splitMember(member: string): { name: string; value: string } {
  const end = endOfString(member, 0) + 1
  return { name: String(JSON.parse(member.slice(0, end))), value: member.slice(member.indexOf(':', end) + 1).trim() }
}

const QUOTE = 34
const COMMA = 44
const BACKSLASH = 92

/** Where the string that opens at `start` ends: its closing quote, or the text's end. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) return at
    if (code === BACKSLASH) at += 1
  }
  return text.length
}

function isOpening(code: number): boolean {
  return code === 91 || code === 123
}

function isClosing(code: number): boolean {
  return code === 93 || code === 125
}
