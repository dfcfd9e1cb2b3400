// The sums of each lane, kept in the transactions of its ledger rows, and how far the lane is dense; with them when a
// gateway was last seen. Last in a transaction, since the lane's row is what bridges of one gateway meet on.
import type { Lane } from '../../shared/batch/envelope.ts'
import type { Client } from '../database.ts'
import type { PreparedBatch } from './prepare.ts'
import type { Tally } from './tally.ts'

export type LaneState = { gateway: string; epoch: string; lane: Lane; denseBatch: number }

type LaneSum = {
  first: PreparedBatch
  batches: number
  records: number
  tally: Tally
  lastBatch: number
  lastSeq: number
}

/**
 * An alarm is over when the gateway goes on in another epoch than the one that was forked, as it should, and a day has
 * passed in which nothing forked again. Until then its `alarm_at` tells its age; one that stays is for an operator.
 */
const OVER =
  "(gateways.alarm_epoch <> excluded.epoch AND gateways.alarm_at <= excluded.last_seen - INTERVAL '24 hours')"

/**
 * Adds the batches, which are new in the ledger and sorted by key, to their lanes.
 * All new numbers lie above `dense_batch`; so they follow on it without a hole exactly when the highest of n is
 * `dense_batch + n`. In every other case the ledger is asked, in a later statement: it sees what others committed while
 * this one waited for the lane.
 */
export async function addToLanes(
  client: Client,
  counted: readonly { batch: PreparedBatch; tally: Tally }[],
  nowMs: number
): Promise<LaneState[]> {
  const sums = sumsOf(counted)
  const newest = new Map(sums.map(({ first }) => [first.header.gateway, first.header.epoch]))
  const gateways = [...newest.keys()]
  const { rows } = await client.query<{
    gateway_id: string
    epoch: string
    lane: Lane
    last_batch: number
    dense_batch: number
  }>({
    name: 'add_to_lanes',
    text: `
      WITH heard AS (
        INSERT INTO gateways (gateway_id, first_seen, last_seen, epoch)
        SELECT gateway_id, $14, $14, epoch FROM unnest($12::text[], $13::text[]) AS seen (gateway_id, epoch)
        ON CONFLICT (gateway_id) DO UPDATE SET
          last_seen = greatest(gateways.last_seen, excluded.last_seen),
          epoch = excluded.epoch,
          alarm = CASE WHEN ${OVER} THEN NULL ELSE gateways.alarm END,
          alarm_at = CASE WHEN ${OVER} THEN NULL ELSE gateways.alarm_at END,
          alarm_epoch = CASE WHEN ${OVER} THEN NULL ELSE gateways.alarm_epoch END
      )
      INSERT INTO ingest_lanes AS lane (
        gateway_id, epoch, lane, batches, records, stored, duplicates, dead_lettered, evicted, last_batch, last_seq,
        dense_batch, first_commit_at, last_commit_at
      )
      SELECT new.*, CASE WHEN new.last_batch = new.batches THEN new.last_batch ELSE 0 END, $14, $14
      FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bigint[], $10::bigint[], $11::bigint[]
      ) AS new (
        gateway_id, epoch, lane, batches, records, stored, duplicates, dead_lettered, evicted, last_batch, last_seq
      )
      ON CONFLICT (gateway_id, epoch, lane) DO UPDATE SET
        batches = lane.batches + excluded.batches,
        records = lane.records + excluded.records,
        stored = lane.stored + excluded.stored,
        duplicates = lane.duplicates + excluded.duplicates,
        dead_lettered = lane.dead_lettered + excluded.dead_lettered,
        evicted = lane.evicted + excluded.evicted,
        last_batch = greatest(lane.last_batch, excluded.last_batch),
        last_seq = greatest(lane.last_seq, excluded.last_seq),
        dense_batch = CASE
          WHEN excluded.last_batch = lane.dense_batch + excluded.batches THEN excluded.last_batch
          ELSE lane.dense_batch
        END,
        last_commit_at = greatest(lane.last_commit_at, excluded.last_commit_at)
      RETURNING gateway_id, epoch, lane, last_batch, dense_batch`,
    values: [
      sums.map(({ first }) => first.header.gateway),
      sums.map(({ first }) => first.header.epoch),
      sums.map(({ first }) => first.header.lane),
      sums.map((sum) => sum.batches),
      sums.map((sum) => sum.records),
      sums.map(({ tally }) => tally.stored),
      sums.map(({ tally }) => tally.duplicates),
      sums.map(({ tally }) => tally.deadLettered),
      sums.map(({ tally }) => tally.evicted),
      sums.map((sum) => sum.lastBatch),
      sums.map((sum) => sum.lastSeq),
      gateways,
      gateways.map((gateway) => newest.get(gateway)),
      new Date(nowMs).toISOString()
    ]
  })
  const states: LaneState[] = []
  for (const row of rows) {
    const state = { gateway: row.gateway_id, epoch: row.epoch, lane: row.lane, denseBatch: row.dense_batch }
    if (row.dense_batch < row.last_batch) state.denseBatch = await advance(client, state)
    states.push(state)
  }
  return states
}

function sumsOf(counted: readonly { batch: PreparedBatch; tally: Tally }[]): LaneSum[] {
  const sums: LaneSum[] = []
  for (const { batch, tally } of counted) {
    const { header } = batch
    let sum = sums.at(-1)
    const before = sum?.first.header
    if (
      sum === undefined ||
      before?.gateway !== header.gateway ||
      before.epoch !== header.epoch ||
      before.lane !== header.lane
    ) {
      const nothing = { stored: 0, duplicates: 0, deadLettered: 0, evicted: 0 }
      sum = { first: batch, batches: 0, records: 0, tally: nothing, lastBatch: 0, lastSeq: 0 }
      sums.push(sum)
    }
    sum.batches += 1
    sum.records += header.records
    sum.tally.stored += tally.stored
    sum.tally.duplicates += tally.duplicates
    sum.tally.deadLettered += tally.deadLettered
    sum.tally.evicted += tally.evicted
    sum.lastBatch = Math.max(sum.lastBatch, header.batch)
    sum.lastSeq = Math.max(sum.lastSeq, header.lastSeq)
  }
  return sums
}

/** Moves `dense_batch` up to the last batch before the first hole. The lane's row is locked by us. */
async function advance(client: Client, lane: LaneState): Promise<number> {
  const { rows } = await client.query<{ dense_batch: number }>({
    name: 'advance_lane',
    text: `
      UPDATE ingest_lanes AS lane
      SET dense_batch = (
        SELECT coalesce(max(batch), lane.dense_batch)
        FROM (
          SELECT batch, batch - row_number() OVER (ORDER BY batch) AS missing
          FROM ingest_batches
          WHERE gateway_id = $1 AND epoch = $2 AND lane = $3 AND batch > lane.dense_batch
        ) AS above
        WHERE missing = lane.dense_batch
      )
      WHERE gateway_id = $1 AND epoch = $2 AND lane = $3
      RETURNING dense_batch`,
    values: [lane.gateway, lane.epoch, lane.lane]
  })
  return rows[0]?.dense_batch ?? lane.denseBatch
}

/** Marks gateways that sent another batch under a number that the ledger has. */
export async function raiseAlarms(client: Client, forks: readonly PreparedBatch[], nowMs: number): Promise<void> {
  const byGateway = new Map(forks.map((batch) => [batch.header.gateway, batch.header]))
  const headers = [...byGateway.values()]
  await client.query({
    name: 'raise_alarms',
    text: `
      INSERT INTO gateways (gateway_id, first_seen, last_seen, epoch, alarm, alarm_at, alarm_epoch)
      SELECT gateway_id, $4, $4, epoch, alarm, $4, epoch
      FROM unnest($1::text[], $2::text[], $3::text[]) AS forked (gateway_id, epoch, alarm)
      ON CONFLICT (gateway_id) DO UPDATE SET
        last_seen = greatest(gateways.last_seen, excluded.last_seen),
        alarm = excluded.alarm,
        alarm_at = excluded.alarm_at,
        alarm_epoch = excluded.alarm_epoch`,
    values: [
      headers.map((header) => header.gateway),
      headers.map((header) => header.epoch),
      headers.map(
        (header) =>
          `batch ${header.batch} of epoch ${header.epoch} came with another digest: the gateway was cloned or restored`
      ),
      new Date(nowMs).toISOString()
    ]
  })
}
