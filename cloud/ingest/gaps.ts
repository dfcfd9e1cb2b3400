// What the edge evicted unsent: each tombstone leaves a row that says what is missing.
import type { Client } from '../database.ts'
import { cleanText } from './dead-letters.ts'
import { instantText } from './instant.ts'
import type { PreparedBatch } from './prepare.ts'

/** Unique by the id that the edge made with the eviction; one that is there already stays. */
export async function insertGap(client: Client, batch: PreparedBatch): Promise<void> {
  const { header, tombstone } = batch
  if (tombstone === null) return
  await client.query({
    name: 'insert_gap',
    text: `
      INSERT INTO data_gaps (
        id, gateway_id, epoch, lane, batch, first_seq, last_seq, records, sensors, from_timestamp, to_timestamp
      )
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
      ON CONFLICT (id) DO NOTHING`,
    values: [
      cleanText(tombstone.id),
      header.gateway,
      header.epoch,
      header.lane,
      header.batch,
      header.firstSeq,
      header.lastSeq,
      header.records,
      JSON.stringify(tombstone.sensors.map(cleanText)),
      tombstone.fromUs === null ? null : instantText(tombstone.fromUs),
      tombstone.toUs === null ? null : instantText(tombstone.toUs)
    ]
  })
}
