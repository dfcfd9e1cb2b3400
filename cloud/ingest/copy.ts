// Rows in PostgreSQL's binary COPY format, and the sending of it: one buffer a batch.
// Source of the format: PostgreSQL documentation, COPY, "Binary Format"; timestamptz is int8 µs since 2000-01-01.
import { from } from 'pg-copy-streams'
import { KIND_NUMBER, KIND_TEXT } from '../../shared/batch/columns.ts'
import type { Client } from '../database.ts'
import { POSTGRES_EPOCH_US } from './instant.ts'
import type { Rows } from './rows.ts'

/** Signature, flags, length of the header's extension. */
const HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
const TRAILER_BYTES = 2
/** A row without sensor id and value: field count, timestamp, id's length, two values' lengths, quality, received_at. */
const ROW_BYTES = 2 + 12 + 4 + 4 + 4 + 6 + 12
const ORDINAL_BYTES = 8
const VALUE_BYTES = 8
const TWO_32 = 2 ** 32

/** The server works on a message only when it has all of it: smaller ones let it begin while the rest is on its way. */
const MESSAGE_BYTES = 65_536

/**
 * The rows named by `order`, in that order: timestamp, sensor_id, value, value_text, quality, received_at; with
 * `ordinals` each row's place in `order` as an int4 comes before them.
 */
export function encodeRows(rows: Rows, order: Uint32Array, options: { ordinals: boolean }): Buffer {
  const { sensors, sensor, timestampUs, receivedUs, quality, kind, number, texts } = rows
  const textBytes = new Map<number, Buffer>()
  let size =
    HEADER.length + TRAILER_BYTES + order.length * (ROW_BYTES + VALUE_BYTES + (options.ordinals ? ORDINAL_BYTES : 0))
  const ids = sensors.map((entry) => entry.bytes)
  for (const row of order) {
    size += ids[sensor[row] ?? 0]?.length ?? 0
    if (kind[row] !== KIND_TEXT) continue
    const text = Buffer.from(texts.get(row) ?? '')
    textBytes.set(row, text)
    size += text.length
  }
  const bytes = Buffer.allocUnsafe(size)
  const view = new DataView(bytes.buffer, bytes.byteOffset, size)
  let at = HEADER.copy(bytes)
  const fields = options.ordinals ? 7 : 6

  function instant(atUs: number): void {
    const since = atUs - POSTGRES_EPOCH_US
    const high = Math.floor(since / TWO_32)
    view.setInt32(at, 8)
    view.setInt32(at + 4, high)
    view.setUint32(at + 8, since - high * TWO_32)
    at += 12
  }

  for (let place = 0; place < order.length; place++) {
    const row = order[place] ?? 0
    view.setInt16(at, fields)
    at += 2
    if (options.ordinals) {
      view.setInt32(at, 4)
      view.setInt32(at + 4, place)
      at += ORDINAL_BYTES
    }
    instant(timestampUs[row] ?? 0)
    const id = ids[sensor[row] ?? 0]
    const idLength = id?.length ?? 0
    view.setInt32(at, idLength)
    at += 4
    if (id !== undefined) for (let index = 0; index < idLength; index++) bytes[at + index] = id[index] ?? 0
    at += idLength
    if (kind[row] === KIND_NUMBER) {
      view.setInt32(at, 8)
      view.setFloat64(at + 4, number[row] ?? 0)
      view.setInt32(at + 12, -1)
      at += 16
    } else {
      view.setInt32(at, -1)
      at += 4
      const text = textBytes.get(row)
      view.setInt32(at, text?.length ?? -1)
      at += 4
      if (text !== undefined) at += text.copy(bytes, at)
    }
    view.setInt32(at, 2)
    view.setInt16(at + 4, quality[row] ?? 0)
    at += 6
    instant(receivedUs[row] ?? 0)
  }
  view.setInt16(at, -1)
  return bytes.subarray(0, at + TRAILER_BYTES)
}

/**
 * Runs a COPY … FROM STDIN with `bytes`; statements may stand before it in `sql`. `meanwhile` runs when all is handed to
 * the system and the server has its work to do.
 * @throws the server's error, or the connection's
 */
export function copyIn(client: Client, sql: string, bytes: Uint8Array, meanwhile?: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = client.query(from(sql))
    stream.on('error', reject)
    stream.once('finish', resolve)
    for (let at = 0; at < bytes.length; at += MESSAGE_BYTES) {
      const last = at + MESSAGE_BYTES >= bytes.length
      stream.write(bytes.subarray(at, at + MESSAGE_BYTES), () => {
        if (last && meanwhile !== undefined) setImmediate(meanwhile)
      })
    }
    stream.end()
  })
}
