// A backlog of an outage goes to the database while the plant goes on: from the ledger's first commit to the one that
// takes the last reading of the backlog.
import { z } from 'zod'
import { pause } from '../../shared/retry.ts'
import type { Bench, Context } from '../bench.ts'
import { bridgePort, startBridgeProcess } from '../bridge.ts'
import { openBenchDatabase } from '../database.ts'
import type { BenchDatabase } from '../database.ts'
import { startEdgeProcess } from '../edge.ts'
import { until } from '../faults/until.ts'
import { figureOf, sumOfLosses } from '../figures.ts'
import { amount, openLoop } from '../load/findings.ts'
import { runLoad, startTeller } from '../program.ts'
import { processorSeconds, residentBytes, sampleMemory } from '../sampler.ts'

const MACHINES = 50
const QUANTITIES = 20
const MIB = 2 ** 20
const LIVE_BEFORE_MS = 2_000
const DRAIN_TIMEOUT_MS = 300_000

const ledger = z
  .array(
    z.object({ records: z.coerce.number(), first: z.coerce.number().nullable(), ms: z.coerce.number().nullable() })
  )
  .length(1)
const totals = z.array(z.object({ rows: z.coerce.number(), duplicates: z.coerce.number() })).length(1)

export const drainBench: Bench = {
  name: 'drain',
  about: 'rows/s of a backlog of 1 M readings after an outage, with 1,000 readings/s of live traffic',
  expectedS: { once: 6, round: 25 },
  async run(context) {
    const database = await openBenchDatabase(context)
    const measured = []
    for (let round = 0; round < context.rounds; round++) {
      const one = await measure(context, database, round)
      measured.push(one)
      context.say(
        `round ${round + 1}: ${Math.round(one.rowsPerS)} rows/s, live PUBACK p99 ${one.live.latency.p99Ms.toFixed(0)} ms`
      )
    }
    const losses = sumOfLosses(measured.map((one) => one.losses))
    return {
      figures: [
        figureOf({
          name: 'drained',
          unit: 'rows/s',
          rounds: measured.map((one) => one.rowsPerS),
          target: { atLeast: 100_000 },
          losses
        }),
        figureOf({ name: 'bridge ready to drained', unit: 's', rounds: measured.map((one) => one.seconds) }),
        figureOf({ name: 'live PUBACK p50', unit: 'ms', rounds: measured.map((one) => one.live.latency.p50Ms) }),
        figureOf({ name: 'live PUBACK p99', unit: 'ms', rounds: measured.map((one) => one.live.latency.p99Ms) }),
        figureOf({ name: 'edge’s peak memory', unit: 'MiB', rounds: measured.map((one) => one.edgePeakBytes / MIB) }),
        figureOf({
          name: 'bridge’s memory afterwards',
          unit: 'MiB',
          rounds: measured.map((one) => one.bridgeBytes / MIB)
        }),
        figureOf({ name: 'edge’s processor time', unit: 's', rounds: measured.map((one) => one.edgeS) }),
        figureOf({ name: 'bridge’s processor time', unit: 's', rounds: measured.map((one) => one.bridgeS) })
      ],
      notes: [`${database.shown}; edge, bridge, PostgreSQL and the live load share the machine’s cores`],
      skipped: null
    }
  }
}

async function measure(context: Context, database: BenchDatabase, round: number) {
  await database.sql('TRUNCATE sensor_readings, ingest_batches, ingest_lanes')
  await database.sql('CHECKPOINT').catch(() => undefined)
  const brokerPort = await bridgePort()
  const edge = await startEdgeProcess(context, {
    dataFolder: context.folder('edge'),
    uplinkUrl: `mqtt://127.0.0.1:${brokerPort}`
  })
  const seed = context.seed + round
  const filled = await runLoad(
    context,
    'load/fill.ts',
    { port: edge.brokerPort, readings: context.pick(1_000_000, 200_000), seed },
    amount
  )
  const backlog = (await edge.health()).sums.accepted
  const plant = startTeller(context, 'load/plant.ts', {
    port: edge.brokerPort,
    machines: MACHINES,
    quantities: QUANTITIES,
    hz: 1,
    forMs: null,
    warmUpMs: LIVE_BEFORE_MS,
    seed
  })
  await plant.next(z.object({ startMs: z.number() }))
  await pause(LIVE_BEFORE_MS)
  const memory = sampleMemory(edge.pid)
  const edgeStartS = processorSeconds(edge.pid)
  const bridge = await startBridgeProcess(context, { databaseUrl: database.url, brokerPort })
  const startMs = performance.now()
  const drained = await until('the backlog to be rows', DRAIN_TIMEOUT_MS, async () => {
    const [entry] = ledger.parse(await database.sql(DRAINED, [backlog]))
    if (entry !== undefined && entry.records >= backlog) return entry
    await pause(100)
    return null
  })
  const seconds = (performance.now() - startMs) / 1_000
  const edgeS = processorSeconds(edge.pid) - edgeStartS
  const bridgeS = processorSeconds(bridge.pid)
  const { peakBytes } = await memory.stop()
  plant.stop()
  const live = await plant.next(openLoop)
  const sent = filled.readings + live.acknowledged
  await until('the live readings to be rows', DRAIN_TIMEOUT_MS, async () => (await edge.health()).sums.pending === 0)
  const bridgeBytes = residentBytes(bridge.pid)
  await edge.stop()
  await bridge.stop()
  const [total] = totals.parse(await database.sql(TOTALS))
  const rows = total?.rows ?? 0
  const losses = {
    sent,
    lost: Math.max(0, sent - rows),
    duplicates: Math.max(0, rows - sent) + (total?.duplicates ?? 0)
  }
  const rowsPerS = ((drained.records - (drained.first ?? 0)) / (drained.ms ?? Number.NaN)) * 1_000
  return { rowsPerS, seconds, live, losses, edgePeakBytes: peakBytes, bridgeBytes, edgeS, bridgeS }
}

/** The batches that hold the first `$1` records, without what the first of them took before its commit. */
const DRAINED = `
  SELECT
    COALESCE(sum(records), 0) AS records,
    (array_agg(records ORDER BY committed_at))[1] AS first,
    extract(epoch FROM max(committed_at) - min(committed_at)) * 1000 AS ms
  FROM ingest_batches
  WHERE lane = 'readings' AND first_seq <= $1`

const TOTALS = `
  SELECT
    (SELECT count(*) FROM sensor_readings) AS rows,
    (SELECT COALESCE(sum(duplicates + dead_lettered), 0) FROM ingest_lanes) AS duplicates`
