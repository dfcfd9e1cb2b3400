// What can't become a row, kept once: by its id, which the edge or the place in the batch gives.
import { createHash } from 'node:crypto'
import type { Client } from '../database.ts'
import type { PlacedReject } from '../../shared/batch/body.ts'
import { hexOf } from '../../shared/batch/envelope.ts'
import type { Lane } from '../../shared/batch/envelope.ts'
import { instantText } from './instant.ts'
import type { PreparedBatch } from './prepare.ts'

const MAX_DETAIL_CHARACTERS = 2_000
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

export type DeadLetter = {
  id: string
  gateway: string
  epoch: string | null
  lane: Lane | null
  batch: number | null
  seq: number | null
  source: 'edge' | 'bridge'
  reason: string
  detail: string
  sqlstate: string | null
  topic: string | null
  payload: Uint8Array
  payloadBytes: number
  payloadSha256: string | null
  receivedUs: number | null
}

/** A text that PostgreSQL takes: NUL, which it has in none, becomes U+FFFD. */
export function cleanText(text: string): string {
  return text.replaceAll('\0', '\ufffd')
}

export function letterOfReject(batch: PreparedBatch, reject: PlacedReject): DeadLetter {
  const { gateway, epoch, lane, firstSeq } = batch.header
  return {
    // An id that isn't the edge's own uuid could be another letter's; it counts only within its gateway.
    id: UUID.test(reject.id) ? reject.id : `${gateway}/${reject.id}`,
    gateway,
    epoch,
    lane,
    batch: batch.header.batch,
    seq: firstSeq + reject.position,
    source: 'edge',
    reason: reject.reason,
    detail: reject.detail,
    sqlstate: null,
    topic: reject.topic,
    payload: reject.payload,
    payloadBytes: reject.payloadBytes,
    payloadSha256: reject.payloadSha256,
    receivedUs: reject.receivedUs
  }
}

/** A record that the bridge could not store; `payload`: the decoded record as JSON. */
export function letterOfRecord(
  batch: PreparedBatch,
  seq: number,
  refusal: { reason: string; detail: string; sqlstate: string | null },
  record: { payload: Uint8Array; receivedUs: number; topic: string | null }
): DeadLetter {
  const { gateway, epoch, lane } = batch.header
  return {
    // By what it is, not by its place: sealed again in another epoch it is the same record.
    id: `${gateway}/${createHash('sha256').update(lane).update(record.payload).digest('hex')}`,
    gateway,
    epoch,
    lane,
    batch: batch.header.batch,
    seq,
    source: 'bridge',
    ...refusal,
    topic: record.topic,
    payload: record.payload,
    payloadBytes: record.payload.length,
    payloadSha256: null,
    receivedUs: record.receivedUs
  }
}

/** A whole batch whose content can't be opened, as it came. */
export function letterOfBatch(batch: PreparedBatch): DeadLetter {
  const { gateway, epoch, lane } = batch.header
  return {
    id: `${gateway}/${hexOf(batch.digest)}`,
    gateway,
    epoch,
    lane,
    batch: batch.header.batch,
    seq: null,
    source: 'bridge',
    reason: 'batch_undecodable',
    detail: batch.problem ?? 'the content could not be opened',
    sqlstate: null,
    topic: null,
    payload: batch.wire,
    payloadBytes: batch.wire.length,
    payloadSha256: null,
    receivedUs: null
  }
}

/**
 * Inserts what isn't there yet, sorted by id, so that two bridges don't deadlock.
 * @returns those whose id was there already, or came before among `letters`
 */
export async function insertDeadLetters(client: Client, letters: readonly DeadLetter[]): Promise<DeadLetter[]> {
  const sorted = letters.toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  const { rows } = await client.query<{ id: string }>({
    name: 'insert_dead_letters',
    text: `
      INSERT INTO dead_letters (
        id, gateway_id, epoch, lane, batch, seq, source, reason, detail, sqlstate, topic,
        payload, payload_bytes, payload_sha256, received_at
      )
      SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::bytea[], $13::bigint[], $14::text[], $15::timestamptz[]
      )
      ON CONFLICT (id) DO NOTHING
      RETURNING id`,
    values: [
      sorted.map((letter) => cleanText(letter.id)),
      sorted.map((letter) => letter.gateway),
      sorted.map((letter) => letter.epoch),
      sorted.map((letter) => letter.lane),
      sorted.map((letter) => letter.batch),
      sorted.map((letter) => letter.seq),
      sorted.map((letter) => letter.source),
      sorted.map((letter) => cleanText(letter.reason)),
      sorted.map((letter) => cleanText(letter.detail).slice(0, MAX_DETAIL_CHARACTERS)),
      sorted.map((letter) => letter.sqlstate),
      sorted.map((letter) => (letter.topic === null ? null : cleanText(letter.topic))),
      sorted.map((letter) => Buffer.from(letter.payload.buffer, letter.payload.byteOffset, letter.payload.length)),
      sorted.map((letter) => letter.payloadBytes),
      sorted.map((letter) => (letter.payloadSha256 === null ? null : cleanText(letter.payloadSha256))),
      sorted.map((letter) => (letter.receivedUs === null ? null : instantText(letter.receivedUs)))
    ]
  })
  const inserted = new Set(rows.map((row) => row.id))
  return sorted.filter((letter) => !inserted.delete(cleanText(letter.id)))
}
