// Bytes that the edge writes to its device for each reading, at W1 (50 machines with 20 quantities at 1 Hz), in the steady
// state: readings come, are sealed, sent and acknowledged, and as many rows and batches are deleted as are added. That
// state begins when the windows are full, so here they are short; what is written for a row doesn't depend on how long it stays.
import { z } from 'zod'
import { pause } from '../../shared/retry.ts'
import type { Bench, Context } from '../bench.ts'
import { lossesAt, startEdgeProcess } from '../edge.ts'
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
  async run(context) {
    const sample = context.folder('edge')
    if (isInMemory(sample)) return skippedBecause(`${sample} lies in memory; --folder names one on a disk`)
    const shortMs = context.pick(30_000, 10_000)
    const found = new Map(WINDOWS_MS.map((windowMs): [number, Measured[]] => [windowMs, []]))
    // Each window once is a table; the default's figure gets every round.
    for (let round = 0; round < context.rounds; round++) {
      for (const windowMs of round === 0 ? WINDOWS_MS : [DEFAULT_WINDOW_MS]) {
        const measured = await measure(context, windowMs, shortMs, round)
        found.get(windowMs)?.push(measured)
        context.say(
          `window ${windowMs} ms: ${measured.bytesPerReading.toFixed(0)} B a reading, ${yearsOf(measured.bytesPerReading).toFixed(1)} years, PUBACK p50 ${measured.p50Ms.toFixed(1)} ms, p99 ${measured.p99Ms.toFixed(1)} ms`
        )
      }
    }
    return {
      figures: [...found].flatMap(([windowMs, measured]) => figuresOf(windowMs, measured)),
      notes: [
        `write_bytes of the process; dedupe window and keeping of acknowledged batches ${shortMs / 1_000} s, measured when both are full`,
        `years on a card of ${CARD_BYTES / 1e9} GB at ${PER_S} readings/s: ${CARD_CYCLES} writes of each cell, nothing added for the card’s own moving of blocks`
      ],
      skipped: null
    }
  }
}

type Measured = { bytesPerReading: number; p50Ms: number; p99Ms: number; cpuUs: number; losses: Losses }

function figuresOf(windowMs: number, measured: readonly Measured[]): Figure[] {
  const isDefault = windowMs === DEFAULT_WINDOW_MS
  const losses = sumOfLosses(measured.map((one) => one.losses))
  const label = isDefault ? `window ${windowMs} ms (default)` : `window ${windowMs} ms`
  const bytes = measured.map((one) => one.bytesPerReading)
  return [
    figureOf({
      name: `written, ${label}`,
      unit: 'B/reading',
      rounds: bytes,
      losses,
      ...(isDefault ? { target: { atMost: 1_000 } } : {})
    }),
    figureOf({ name: `32 GB card, ${label}`, unit: 'years', rounds: bytes.map(yearsOf) }),
    figureOf({
      name: `PUBACK p50, ${label}`,
      unit: 'ms',
      rounds: measured.map((one) => one.p50Ms),
      losses,
      ...(isDefault ? { target: { atMost: 30 } } : {})
    }),
    figureOf({ name: `PUBACK p99, ${label}`, unit: 'ms', rounds: measured.map((one) => one.p99Ms) }),
    figureOf({ name: `processor time, ${label}`, unit: 'µs/reading', rounds: measured.map((one) => one.cpuUs) })
  ]
}

function yearsOf(bytesPerReading: number): number {
  return (CARD_BYTES * CARD_CYCLES) / (bytesPerReading * PER_S) / YEAR_S
}

async function measure(context: Context, windowMs: number, shortMs: number, round: number): Promise<Measured> {
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
  // Ages are known to 10 s.
  const warmUpMs = shortMs + context.pick(20_000, 11_000)
  const measureMs = context.pick(60_000, 10_000)
  const before = (await edge.health()).sums
  const plant = startTeller(context, 'load/plant.ts', {
    port: edge.brokerPort,
    machines: MACHINES,
    quantities: QUANTITIES,
    hz: 1,
    forMs: warmUpMs + measureMs,
    warmUpMs,
    seed: context.seed + round
  })
  await plant.next(z.object({ startMs: z.number() }))
  await pause(warmUpMs)
  const startBytes = writtenBytes(edge.pid)
  const startS = processorSeconds(edge.pid)
  const startMs = performance.now()
  await pause(measureMs)
  const readings = ((performance.now() - startMs) / 1_000) * PER_S
  const bytesPerReading = (writtenBytes(edge.pid) - startBytes) / readings
  const cpuUs = ((processorSeconds(edge.pid) - startS) / readings) * 1e6
  const { acknowledged, latency } = await plant.next(openLoop)
  const losses = lossesAt(before, (await edge.health()).sums, acknowledged)
  await edge.stop()
  cloud.stop()
  return { bytesPerReading, p50Ms: latency.p50Ms, p99Ms: latency.p99Ms, cpuUs, losses }
}
