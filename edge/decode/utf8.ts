// A payload's text.
import { isUtf8 } from 'node:buffer'

const REPLACEMENT = '\ufffd'
const BYTE_ORDER_MARK = '\ufeff'

/** The text without a leading byte order mark; null when the bytes are no valid UTF-8. */
export function readUtf8(bytes: Uint8Array): string | null {
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const text = buffer.toString('utf8')
  // Invalid bytes decode to this character, which a valid text may hold too.
  if (text.includes(REPLACEMENT) && !isUtf8(bytes)) return null
  return text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text
}
