// What the ledger says of the gateways, read in a few cheap statements.
import { z } from 'zod'
import type { Client } from '../database.ts'

export type LaneRow = z.infer<typeof laneRow>
export type GatewayRow = z.infer<typeof gatewayRow>

export type LedgerFacts = {
  gateways: GatewayRow[]
  lanes: LaneRow[]
  /** Open dead letters by gateway, of the newest `MAX_COUNTED`. */
  openDeadLetters: ReadonlyMap<string, number>
  /** There are more than were counted. */
  deadLettersTruncated: boolean
}

const MAX_GATEWAYS = 10_000
const MAX_LANES = 20_000
const MAX_COUNTED = 50_000

const count = z.coerce.number()

const laneRow = z.object({
  gateway_id: z.string(),
  epoch: z.string(),
  lane: z.enum(['readings', 'maintenance']),
  batches: count,
  records: count,
  stored: count,
  duplicates: count,
  dead_lettered: count,
  evicted: count,
  last_batch: count,
  dense_batch: count,
  last_commit_at: z.date().nullable()
})

const gatewayRow = z.object({
  gateway_id: z.string(),
  first_seen: z.date(),
  last_seen: z.date(),
  epoch: z.string().nullable(),
  alarm: z.string().nullable(),
  alarm_at: z.date().nullable()
})

const deadLetterRow = z.object({ gateway_id: z.string(), n: count })

const GATEWAYS = `
  SELECT gateway_id, first_seen, last_seen, epoch, alarm, alarm_at
  FROM gateways
  ORDER BY last_seen DESC
  LIMIT ${MAX_GATEWAYS}`

const LANES = `
  SELECT gateway_id, epoch, lane, batches, records, stored, duplicates, dead_lettered, evicted, last_batch, dense_batch,
    last_commit_at
  FROM ingest_lanes
  ORDER BY last_commit_at DESC NULLS LAST
  LIMIT ${MAX_LANES}`

/** Looks at a bounded number of rows, however many there are. */
const DEAD_LETTERS = `
  SELECT gateway_id, count(*) AS n
  FROM (
    SELECT gateway_id
    FROM dead_letters
    WHERE state = 'open'
    LIMIT ${MAX_COUNTED}
  ) AS open
  GROUP BY gateway_id`

export async function readLedger(client: Client, timeoutMs: number): Promise<LedgerFacts> {
  const gateways = await client.query(timed(GATEWAYS, timeoutMs))
  const lanes = await client.query(timed(LANES, timeoutMs))
  const deadLetters = z.array(deadLetterRow).parse((await client.query(timed(DEAD_LETTERS, timeoutMs))).rows)
  const counted = deadLetters.reduce((sum, row) => sum + row.n, 0)
  return {
    gateways: z.array(gatewayRow).parse(gateways.rows),
    lanes: z.array(laneRow).parse(lanes.rows),
    openDeadLetters: new Map(deadLetters.map((row) => [row.gateway_id, row.n])),
    deadLettersTruncated: counted >= MAX_COUNTED
  }
}

/** pg gives a query up after `query_timeout`, and the connection with it. */
function timed(text: string, timeoutMs: number) {
  const query = { text, query_timeout: timeoutMs }
  return query
}
