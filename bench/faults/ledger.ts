// The ledger by itself, and against the rows, the dead letters and the edge's sums (I4, I5).
import type pg from 'pg'
import { z } from 'zod'
import type { EpochSums } from '../../shared/status.ts'
import type { Checks } from './checks.ts'

const batchRow = z.object({
  gateway_id: z.string(),
  epoch: z.string(),
  lane: z.string(),
  batch: z.coerce.number(),
  first_seq: z.coerce.number(),
  last_seq: z.coerce.number(),
  predecessor: z.instanceof(Buffer).nullable(),
  digest: z.instanceof(Buffer),
  records: z.number()
})

const laneRow = z.object({
  epoch: z.string(),
  lane: z.string(),
  batches: z.coerce.number(),
  records: z.coerce.number(),
  stored: z.coerce.number(),
  duplicates: z.coerce.number(),
  dead_lettered: z.coerce.number(),
  evicted: z.coerce.number(),
  last_batch: z.coerce.number(),
  dense_batch: z.coerce.number()
})

/** `isOwn`: the epochs that one edge alone wrote; two that share one may both have gone on after its last common batch. */
export async function checkLedger(
  db: pg.Client,
  checks: Checks,
  isOwn: (epoch: string) => boolean = () => true
): Promise<void> {
  checks.addAll('I4', await chainProblems(db, isOwn))
  checks.addAll('I4', await laneProblems(db))
  checks.addAll('I5', await totalProblems(db))
}

/** Dense from 1, and each batch names the digest of the one before it. */
async function chainProblems(db: pg.Client, isOwn: (epoch: string) => boolean): Promise<string[]> {
  const { rows } = await db.query<Record<string, unknown>>(`
    SELECT gateway_id, epoch, lane, batch, first_seq, last_seq, predecessor, digest, records
    FROM ingest_batches
    ORDER BY gateway_id, epoch, lane, batch`)
  const problems: string[] = []
  let before: z.infer<typeof batchRow> | null = null
  for (const row of rows) {
    const entry = batchRow.parse(row)
    const name = `${entry.gateway_id}/${entry.epoch}/${entry.lane}/${entry.batch}`
    const isFirst =
      before?.gateway_id !== entry.gateway_id || before.epoch !== entry.epoch || before.lane !== entry.lane
    const predecessor = isFirst ? null : (before?.digest ?? null)
    const number = isFirst ? 1 : (before?.batch ?? 0) + 1
    if (entry.batch !== number) problems.push(`${name} follows, expected was ${number}`)
    else if (!same(entry.predecessor, predecessor) && isOwn(entry.epoch))
      problems.push(`${name} names another predecessor than the one before it`)
    if (!isFirst && before !== null && entry.first_seq <= before.last_seq) problems.push(`${name} repeats seqs`)
    if (entry.last_seq - entry.first_seq + 1 !== entry.records) problems.push(`${name}: seqs and records don't agree`)
    before = entry
  }
  return problems
}

function same(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b)
}

/** The lanes' sums are those of their batches. */
async function laneProblems(db: pg.Client): Promise<string[]> {
  const { rows } = await db.query<Record<string, unknown>>(`
    SELECT lanes.epoch, lanes.lane, lanes.last_batch, lanes.dense_batch
    FROM ingest_lanes AS lanes
    LEFT JOIN (
      SELECT
        gateway_id, epoch, lane, count(*) AS batches, sum(records) AS records, sum(stored) AS stored,
        sum(duplicates) AS duplicates, sum(dead_lettered) AS dead_lettered, sum(evicted) AS evicted,
        max(batch) AS last_batch, max(last_seq) AS last_seq
      FROM ingest_batches
      GROUP BY gateway_id, epoch, lane
    ) AS sums USING (
      gateway_id, epoch, lane, batches, records, stored, duplicates, dead_lettered, evicted, last_batch, last_seq
    )
    WHERE sums.batches IS NULL OR lanes.dense_batch <> lanes.last_batch`)
  return rows.map((row) => `the lane's sums are not those of its batches, or it isn't dense: ${JSON.stringify(row)}`)
}

const totals = z.object({
  stored_readings: z.coerce.number(),
  readings: z.coerce.number(),
  stored_events: z.coerce.number(),
  events: z.coerce.number(),
  dead_lettered: z.coerce.number(),
  letters: z.coerce.number()
})

/** What the ledger counts is there. */
async function totalProblems(db: pg.Client): Promise<string[]> {
  const { rows } = await db.query<Record<string, unknown>>(`
    SELECT
      (SELECT coalesce(sum(stored), 0) FROM ingest_lanes WHERE lane = 'readings') AS stored_readings,
      (SELECT count(*) FROM sensor_readings) AS readings,
      (SELECT coalesce(sum(stored), 0) FROM ingest_lanes WHERE lane = 'maintenance') AS stored_events,
      (SELECT count(*) FROM maintenance_logs) AS events,
      (SELECT coalesce(sum(dead_lettered), 0) FROM ingest_lanes) AS dead_lettered,
      (SELECT count(*) FROM dead_letters) AS letters`)
  const found = totals.parse(rows[0])
  const problems: string[] = []
  function compare(what: string, ledger: number, there: number): void {
    if (ledger !== there) problems.push(`the ledger counts ${ledger} ${what}, there are ${there}`)
  }
  compare('stored readings', found.stored_readings, found.readings)
  compare('stored events', found.stored_events, found.events)
  compare('dead letters', found.dead_lettered, found.letters)
  return problems
}

/** The edge's acknowledged records against the ledger's, in every epoch that is its own. */
export async function checkSums(
  db: pg.Client,
  sums: readonly EpochSums[],
  checks: Checks,
  isOwn: (epoch: string) => boolean = () => true
): Promise<void> {
  const { rows } = await db.query<Record<string, unknown>>('SELECT * FROM ingest_lanes')
  const lanes = rows.map((row) => laneRow.parse(row)).filter(({ epoch }) => isOwn(epoch))
  const problems: string[] = []
  for (const of of sums.filter(({ epoch }) => isOwn(epoch))) {
    const lane = lanes.find(({ epoch, lane }) => epoch === of.epoch && lane === of.lane)
    const edge = [of.acknowledged, of.stored, of.cloudDuplicates, of.deadLettered]
    const ledger = [lane?.records ?? 0, lane?.stored ?? 0, lane?.duplicates ?? 0, lane?.dead_lettered ?? 0]
    if (edge.join() !== ledger.join()) {
      problems.push(
        `${of.lane} of epoch ${of.epoch}: the edge says ${edge.join(', ')}, the ledger ${ledger.join(', ')}`
      )
    }
    if (of.received !== of.filtered + of.duplicate + of.accepted) problems.push(`received: ${JSON.stringify(of)}`)
    if (of.accepted !== of.pending + of.evicted + of.acknowledged) problems.push(`accepted: ${JSON.stringify(of)}`)
  }
  for (const { epoch, lane } of lanes) {
    if (!sums.some((of) => of.epoch === epoch && of.lane === lane)) problems.push(`the edge knows no epoch ${epoch}`)
  }
  checks.addAll('I5', problems)
}
