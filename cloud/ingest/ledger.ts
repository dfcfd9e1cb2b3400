// The ledger: one row per batch, which is what makes a batch count once.
//
// Order of locks in every transaction: ledger rows, maintenance of a gateway, sensors, readings, dead letters, lanes,
// gateways, each sorted by key. Bridges that are given the same batches wait for each other and don't deadlock.
import { NO_PREDECESSOR, sameBytes } from '../../shared/batch/envelope.ts'
import type { Client } from '../database.ts'
import { keyOf } from './prepare.ts'
import type { PreparedBatch } from './prepare.ts'
import type { Tally } from './tally.ts'

/** A batch that the ledger had already. */
export type Found = { digest: Uint8Array; tally: Tally }

export type Claims = {
  /** Ours: their rows were inserted. In the order given. */
  fresh: PreparedBatch[]
  found: { batch: PreparedBatch; entry: Found }[]
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

/**
 * Inserts the batches' rows, with the counts that are expected. Waits for another bridge that has inserted one of them
 * and not yet committed. `batches` are sorted by key.
 */
export async function claim(
  client: Client,
  batches: readonly PreparedBatch[],
  expected: (batch: PreparedBatch) => Tally
): Promise<Claims> {
  const tallies = batches.map(expected)
  const { rows } = await client.query<{ gateway_id: string; epoch: string; lane: string; batch: number }>({
    name: 'claim_batches',
    text: `
      INSERT INTO ingest_batches (
        gateway_id, epoch, lane, batch, kind, first_seq, last_seq, predecessor, digest,
        records, stored, duplicates, dead_lettered, evicted, touched
      )
      SELECT * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bytea[], $9::bytea[],
        $10::integer[], $11::integer[], $12::integer[], $13::integer[], $14::integer[], $15::tstzmultirange[]
      )
      ON CONFLICT (gateway_id, epoch, lane, batch) DO NOTHING
      RETURNING gateway_id, epoch, lane, batch`,
    values: [
      batches.map(({ header }) => header.gateway),
      batches.map(({ header }) => header.epoch),
      batches.map(({ header }) => header.lane),
      batches.map(({ header }) => header.batch),
      batches.map(({ kind }) => kind),
      batches.map(({ header }) => header.firstSeq),
      batches.map(({ header }) => header.lastSeq),
      batches.map(({ predecessor }) => (sameBytes(predecessor, NO_PREDECESSOR) ? null : bufferOf(predecessor))),
      batches.map(({ digest }) => bufferOf(digest)),
      batches.map(({ header }) => header.records),
      tallies.map((tally) => tally.stored),
      tallies.map((tally) => tally.duplicates),
      tallies.map((tally) => tally.deadLettered),
      tallies.map((tally) => tally.evicted),
      batches.map(({ touched }) => touched)
    ]
  })
  if (rows.length === batches.length) return { fresh: [...batches], found: [] }
  const inserted = new Set(rows.map((row) => keyOf({ ...row, gateway: row.gateway_id })))
  const fresh = batches.filter(({ header }) => inserted.has(keyOf(header)))
  const known = batches.filter(({ header }) => !inserted.has(keyOf(header)))
  const entries = await find(client, known)
  return {
    fresh,
    found: known.map((batch) => {
      const entry = entries.get(keyOf(batch.header))
      if (entry === undefined) throw new Error(`the ledger has and has not the batch ${keyOf(batch.header)}`)
      return { batch, entry }
    })
  }
}

type LedgerRow = {
  gateway_id: string
  epoch: string
  lane: string
  batch: number
  digest: Buffer
  stored: number
  duplicates: number
  dead_lettered: number
  evicted: number
}

/** In a statement of its own: the one that inserted doesn't see what was committed while it waited. */
async function find(client: Client, batches: readonly PreparedBatch[]): Promise<Map<string, Found>> {
  const { rows } = await client.query<LedgerRow>({
    name: 'find_batches',
    text: `
      SELECT gateway_id, epoch, lane, batch, digest, stored, duplicates, dead_lettered, evicted
      FROM ingest_batches
      JOIN unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS wanted (gateway_id, epoch, lane, batch)
        USING (gateway_id, epoch, lane, batch)`,
    values: [
      batches.map(({ header }) => header.gateway),
      batches.map(({ header }) => header.epoch),
      batches.map(({ header }) => header.lane),
      batches.map(({ header }) => header.batch)
    ]
  })
  return new Map(
    rows.map((row) => [
      keyOf({ ...row, gateway: row.gateway_id }),
      {
        digest: row.digest,
        tally: { stored: row.stored, duplicates: row.duplicates, deadLettered: row.dead_lettered, evicted: row.evicted }
      }
    ])
  )
}

/** Corrects the counts of batches that turned out otherwise than expected. */
export async function correct(
  client: Client,
  counted: readonly { batch: PreparedBatch; tally: Tally }[]
): Promise<void> {
  await client.query({
    name: 'correct_batches',
    text: `
      UPDATE ingest_batches AS ledger
      SET stored = counted.stored, duplicates = counted.duplicates, dead_lettered = counted.dead_lettered,
        evicted = counted.evicted
      FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::integer[], $7::integer[], $8::integer[]
      ) AS counted (gateway_id, epoch, lane, batch, stored, duplicates, dead_lettered, evicted)
      WHERE ledger.gateway_id = counted.gateway_id AND ledger.epoch = counted.epoch
        AND ledger.lane = counted.lane AND ledger.batch = counted.batch`,
    values: [
      counted.map(({ batch }) => batch.header.gateway),
      counted.map(({ batch }) => batch.header.epoch),
      counted.map(({ batch }) => batch.header.lane),
      counted.map(({ batch }) => batch.header.batch),
      counted.map(({ tally }) => tally.stored),
      counted.map(({ tally }) => tally.duplicates),
      counted.map(({ tally }) => tally.deadLettered),
      counted.map(({ tally }) => tally.evicted)
    ]
  })
}
