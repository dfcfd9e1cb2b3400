// Bytes that the edge writes to its device for each reading, at W1 (50 machines with 20 quantities at 1 Hz), in the steady
// state: readings come, are sealed, sent and acknowledged, and as many rows and batches are deleted as are added. That
// state begins when the windows are full, so here they are short; but as long as several fillings of the WAL, so that rows are
// deleted from pages that were written back long ago, and as long is measured, so that whole fillings are. Bytes are counted per
// process, with an edge for each commit window at once; latencies are taken with one edge alone.
import { z } from 'zod'
import { pause } from '../../shared/retry.ts'
import type { Bench, Context } from '../bench.ts'
import { lossesAt, startEdgeProcess } from '../edge.ts'
import type { EdgeProcess } from '../edge.ts'
import { figureOf, skippedBecause, sumOfLosses } from '../figures.ts'
import type { Figure, Losses } from '../figures.ts'
import { openLoop } from '../load/findings.ts'
import { startTeller } from '../program.ts'
import { isInMemory, processorSeconds, writtenBytes } from '../sampler.ts'

const MACHINES = 50
const QUANTITIES = 20
const PER_S = MACHINES * QUANTITIES

const DEFAULT_WINDOW_MS = 20
const WINDOWS_MS = [0, 5, DEFAULT_WINDOW_MS, 50, 100]

/** A card's life: so often may all of it be written. */
const CARD_BYTES = 32e9
const CARD_CYCLES = 3_000
const YEAR_S = 365.25 * 86_400

export const wearBench: Bench = {
  name: 'wear',
  about: 'bytes written to the device per reading, and publish to PUBACK, by commit window',
  expectedS: { once: 190, round: 14 },
  async run(context) {
    const sample = context.folder('edge')
    if (isInMemory(sample)) return skippedBecause(`${sample} lies in memory; --folder names one on a disk`)
    const shortMs = context.pick(60_000, 10_000)
    const written = await Promise.all(WINDOWS_MS.map((windowMs) => measureWriting(context, windowMs, shortMs)))
    const figures: Figure[] = []
    for (const [index, windowMs] of WINDOWS_MS.entries()) {
      const writing = written[index]
      if (writing === undefined) continue
      const answering: Answering[] = []
      const rounds = windowMs === DEFAULT_WINDOW_MS ? context.rounds : 1
      for (let round = 0; round < rounds; round++) answering.push(await measureAnswering(context, windowMs, round))
      figures.push(...figuresOf(windowMs, writing, answering))
      context.say(
        `window ${windowMs} ms: ${writing.bytesPerReading.toFixed(0)} B a reading, ${yearsOf(writing.bytesPerReading).toFixed(1)} years, PUBACK p50 ${answering[0]?.p50Ms.toFixed(1)} ms, p99 ${answering[0]?.p99Ms.toFixed(1)} ms`
      )
    }
    return {
      figures,
      notes: [
        `write_bytes of the process; dedupe window and keeping of acknowledged batches ${shortMs / 1_000} s, measured for ${measuredMs(context) / 1_000} s when both are full`,
        `years on a card of ${CARD_BYTES / 1e9} GB at ${PER_S} readings/s: ${CARD_CYCLES} writes of each cell, nothing added for the card’s own moving of blocks`
      ],
      skipped: null
    }
  }
}

type Writing = { bytesPerReading: number; cpuUs: number; losses: Losses }
type Answering = { p50Ms: number; p99Ms: number; losses: Losses }

function figuresOf(windowMs: number, writing: Writing, answering: readonly Answering[]): Figure[] {
  const isDefault = windowMs === DEFAULT_WINDOW_MS
  const label = isDefault ? `window ${windowMs} ms (default)` : `window ${windowMs} ms`
  return [
    figureOf({
      name: `written, ${label}`,
      unit: 'B/reading',
      rounds: [writing.bytesPerReading],
      losses: writing.losses,
      ...(isDefault ? { target: { atMost: 1_000 } } : {})
    }),
    figureOf({ name: `32 GB card, ${label}`, unit: 'years', rounds: [yearsOf(writing.bytesPerReading)] }),
    figureOf({
      name: `PUBACK p50, ${label}`,
      unit: 'ms',
      rounds: answering.map((one) => one.p50Ms),
      losses: sumOfLosses(answering.map((one) => one.losses)),
      ...(isDefault ? { target: { atMost: 30 } } : {})
    }),
    figureOf({ name: `PUBACK p99, ${label}`, unit: 'ms', rounds: answering.map((one) => one.p99Ms) }),
    figureOf({ name: `processor time, ${label}`, unit: 'µs/reading', rounds: [writing.cpuUs] })
  ]
}

function yearsOf(bytesPerReading: number): number {
  return (CARD_BYTES * CARD_CYCLES) / (bytesPerReading * PER_S) / YEAR_S
}

function measuredMs(context: Context): number {
  return context.pick(60_000, 10_000)
}

async function measureWriting(context: Context, windowMs: number, shortMs: number): Promise<Writing> {
  // Ages are known to 10 s.
  const warmUpMs = shortMs + context.pick(20_000, 11_000)
  const measureMs = measuredMs(context)
  const plant = await openPlant(context, {
    windowMs,
    shortMs,
    warmUpMs,
    forMs: warmUpMs + measureMs,
    seed: context.seed
  })
  await pause(warmUpMs)
  const startBytes = writtenBytes(plant.edge.pid)
  const startS = processorSeconds(plant.edge.pid)
  const startMs = performance.now()
  await pause(measureMs)
  const readings = ((performance.now() - startMs) / 1_000) * PER_S
  const bytesPerReading = (writtenBytes(plant.edge.pid) - startBytes) / readings
  const cpuUs = ((processorSeconds(plant.edge.pid) - startS) / readings) * 1e6
  const { losses } = await plant.finish()
  return { bytesPerReading, cpuUs, losses }
}

async function measureAnswering(context: Context, windowMs: number, round: number): Promise<Answering> {
  const warmUpMs = context.pick(3_000, 1_000)
  const forMs = warmUpMs + context.pick(10_000, 3_000)
  const seed = context.seed + round
  const plant = await openPlant(context, { windowMs, shortMs: forMs, warmUpMs, forMs, seed })
  const { losses, latency } = await plant.finish()
  return { p50Ms: latency.p50Ms, p99Ms: latency.p99Ms, losses }
}

/** An edge, a cloud that answers it, and a plant that has begun. `finish` waits for the plant's end and ends them all. */
async function openPlant(
  context: Context,
  options: { windowMs: number; shortMs: number; warmUpMs: number; forMs: number; seed: number }
): Promise<{ edge: EdgeProcess; finish: () => Promise<z.infer<typeof openLoop> & { losses: Losses }> }> {
  const { windowMs, shortMs, warmUpMs, forMs, seed } = options
  const cloud = startTeller(context, 'peers/answering-cloud.ts', {})
  const { port } = await cloud.next(z.object({ port: z.int() }))
  const edge = await startEdgeProcess(context, {
    dataFolder: context.folder('edge'),
    uplinkUrl: `mqtt://127.0.0.1:${port}`,
    env: {
      EDGE_COMMIT_WINDOW_MS: String(windowMs),
      EDGE_DEDUPE_WINDOW_MS: String(shortMs),
      EDGE_KEEP_ACKED_MS: String(shortMs)
    }
  })
  const before = (await edge.health()).sums
  const plant = startTeller(context, 'load/plant.ts', {
    port: edge.brokerPort,
    machines: MACHINES,
    quantities: QUANTITIES,
    hz: 1,
    forMs,
    warmUpMs,
    seed
  })
  await plant.next(z.object({ startMs: z.number() }))
  return {
    edge,
    async finish() {
      const found = await plant.next(openLoop)
      const losses = lossesAt(before, (await edge.health()).sums, found.acknowledged)
      await edge.stop()
      cloud.stop()
      return { ...found, losses }
    }
  }
}
