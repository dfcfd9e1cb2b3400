// From the moment at which a reading should have been published to its row being visible to another session, at 1,000
// readings/s of 200 sensors. The newest visible time is asked for every few milliseconds; as batches are committed in
// order, which the ledger shows afterwards, all readings up to it are visible then.
import { z } from 'zod'
import { pause } from '../../shared/retry.ts'
import type { Bench, Context } from '../bench.ts'
import { bridgePort, startBridgeProcess } from '../bridge.ts'
import { openBenchDatabase } from '../database.ts'
import type { BenchDatabase } from '../database.ts'
import { startEdgeProcess } from '../edge.ts'
import { until } from '../faults/until.ts'
import { figureOf, sumOfLosses } from '../figures.ts'
import type { Figure, Losses } from '../figures.ts'
import { openLoop } from '../load/findings.ts'
import { createLatencies, wallMs } from '../load/task.ts'
import { startTeller } from '../program.ts'

const SENSORS = 200
const HZ = 5
const PER_MS = (SENSORS * HZ) / 1_000
const POLL_MS = 4

const newest = z.array(z.object({ ms: z.coerce.number().nullable() })).length(1)
const ledger = z
  .array(z.object({ rows: z.coerce.number(), duplicates: z.coerce.number(), early: z.coerce.number() }))
  .length(1)

type Settings = { label: string; env: Record<string, string>; p50Ms: number; p99Ms: number | null }
const SETTINGS: readonly Settings[] = [
  { label: 'defaults', env: {}, p50Ms: 400, p99Ms: 800 },
  {
    label: 'commit window and linger 0',
    env: { EDGE_COMMIT_WINDOW_MS: '0', EDGE_LINGER_MS: '0' },
    p50Ms: 60,
    p99Ms: null
  }
]

export const latencyBench: Bench = {
  name: 'latency',
  about: 'publish to visible row at 1,000 readings/s, from the intended moment of sending',
  expectedS: { once: 8, round: 38 },
  async run(context) {
    const database = await openBenchDatabase(context)
    const found = SETTINGS.map((): Measured[] => [])
    for (let round = 0; round < context.rounds; round++) {
      for (const [index, settings] of SETTINGS.entries()) {
        const measured = await measure(context, database, settings, round)
        found[index]?.push(measured)
        context.say(
          `${settings.label}, round ${round + 1}: p50 ${measured.p50Ms.toFixed(1)} ms, p99 ${measured.p99Ms.toFixed(1)} ms`
        )
      }
    }
    return {
      figures: SETTINGS.flatMap((settings, index) => figuresOf(settings, found[index] ?? [])),
      notes: [`${database.shown}; visible as another session sees it, asked every ${POLL_MS} ms`],
      skipped: null
    }
  }
}

type Measured = { p50Ms: number; p99Ms: number; maxMs: number; losses: Losses }

function figuresOf({ label, p50Ms, p99Ms }: Settings, measured: readonly Measured[]): Figure[] {
  const losses = sumOfLosses(measured.map((one) => one.losses))
  return [
    figureOf({
      name: `p50, ${label}`,
      unit: 'ms',
      rounds: measured.map((one) => one.p50Ms),
      target: { atMost: p50Ms },
      losses
    }),
    figureOf({
      name: `p99, ${label}`,
      unit: 'ms',
      rounds: measured.map((one) => one.p99Ms),
      losses,
      ...(p99Ms === null ? {} : { target: { atMost: p99Ms } })
    }),
    figureOf({ name: `longest, ${label}`, unit: 'ms', rounds: measured.map((one) => one.maxMs) })
  ]
}

async function measure(
  context: Context,
  database: BenchDatabase,
  settings: Settings,
  round: number
): Promise<Measured> {
  await database.sql('TRUNCATE sensor_readings, ingest_batches, ingest_lanes')
  const brokerPort = await bridgePort()
  const bridge = await startBridgeProcess(context, { databaseUrl: database.url, brokerPort })
  const edge = await startEdgeProcess(context, {
    dataFolder: context.folder('edge'),
    uplinkUrl: `mqtt://127.0.0.1:${brokerPort}`,
    env: settings.env
  })
  const warmUpMs = context.pick(3_000, 2_000)
  const forMs = warmUpMs + context.pick(12_000, 4_000)
  const task = {
    port: edge.brokerPort,
    machines: SENSORS,
    quantities: 1,
    hz: HZ,
    forMs,
    warmUpMs,
    seed: context.seed + round
  }
  const plant = startTeller(context, 'load/plant.ts', task)
  const { startMs } = await plant.next(z.object({ startMs: z.number() }))

  const latencies = createLatencies()
  /** Readings are due every 1 / PER_MS from `startMs` on; so many are visible. */
  let visible = 0
  const all = forMs * PER_MS
  await until('all readings to be rows', forMs + 60_000, async () => {
    const { ms } = newest.parse(
      await database.sql('SELECT extract(epoch FROM max(timestamp)) * 1000 AS ms FROM sensor_readings')
    )[0] ?? { ms: null }
    const nowMs = wallMs()
    if (ms !== null) {
      for (; visible < all && Math.floor(startMs + visible / PER_MS) <= ms; visible++) {
        const dueMs = startMs + visible / PER_MS
        if (dueMs >= startMs + warmUpMs) latencies.note(nowMs - dueMs)
      }
    }
    if (visible >= all) return true
    await pause(POLL_MS)
    return false
  })
  const { acknowledged } = await plant.next(openLoop)
  await edge.stop()
  await bridge.stop()
  const [counts] = ledger.parse(
    await database.sql(`
      SELECT
        (SELECT count(*) FROM sensor_readings) AS rows,
        (SELECT COALESCE(sum(duplicates + dead_lettered), 0) FROM ingest_lanes) AS duplicates,
        (
          SELECT count(*)
          FROM ingest_batches AS a
          JOIN ingest_batches AS b ON b.lane = a.lane AND b.epoch = a.epoch AND b.batch = a.batch + 1
          WHERE b.committed_at < a.committed_at
        ) AS early`)
  )
  if (counts === undefined || counts.early > 0)
    throw new Error('batches were not committed in order: the latencies mean nothing')
  return {
    ...latencies.summary(),
    losses: { sent: acknowledged, lost: Math.max(0, acknowledged - counts.rows), duplicates: counts.duplicates }
  }
}
