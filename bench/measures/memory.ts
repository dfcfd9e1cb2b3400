// The edge's resident memory at 10,000 messages/s, with nothing waiting at first, and with millions of readings waiting.
import { pause } from '../../shared/retry.ts'
import { z } from 'zod'
import type { Bench, Context } from '../bench.ts'
import { lossesAt, startEdgeProcess } from '../edge.ts'
import type { EdgeProcess } from '../edge.ts'
import { figureOf, medianOf, sumOfLosses } from '../figures.ts'
import type { Losses } from '../figures.ts'
import { amount, openLoop } from '../load/findings.ts'
import { runLoad, startTeller } from '../program.ts'
import { processorSeconds, residentBytes, sampleMemory } from '../sampler.ts'

const MIB = 2 ** 20
/** 150 MB as the target says it. */
const LIMIT_MIB = 150e6 / MIB
const MACHINES = 50
const QUANTITIES = 20
const HZ = 10
/** Well under what the waiting readings need unsealed. */
const BUFFER = '8GiB'
const WITHIN = 0.1

export const memoryBench: Bench = {
  name: 'memory',
  about: 'resident memory of the edge at 10,000 messages/s, with nothing and with 5 M readings waiting',
  expectedS: { once: 100, round: 37 },
  async run(context) {
    const waiting = context.pick(5_000_000, 200_000)
    const idle: number[] = []
    const empty: Measured[] = []
    const filled: number[] = []
    for (let round = 0; round < context.rounds; round++) {
      const edge = await open(context, context.folder('edge'))
      idle.push(residentBytes(edge.pid) / MIB)
      const measured = await measure(context, edge, round)
      empty.push(measured)
      context.say(`round ${round + 1}: ${measured.medianMib.toFixed(0)} MiB, peak ${measured.peakMib.toFixed(0)}`)
    }
    // Filling takes its time: once.
    const dataFolder = context.folder('full')
    await fill(context, dataFolder, waiting, filled)
    const loaded = await measure(context, await open(context, dataFolder), context.rounds)
    context.say(`with readings waiting: ${loaded.medianMib.toFixed(0)} MiB, peak ${loaded.peakMib.toFixed(0)}`)
    const losses = sumOfLosses([...empty, loaded].map((one) => one.losses))
    return {
      figures: [
        figureOf({
          name: 'peak at 10,000 msg/s',
          unit: 'MiB',
          rounds: empty.map((one) => one.peakMib),
          target: { atMost: LIMIT_MIB },
          losses
        }),
        figureOf({ name: 'median at 10,000 msg/s', unit: 'MiB', rounds: empty.map((one) => one.medianMib) }),
        figureOf({
          name: `with ${waiting / 1e6} M readings waiting`,
          unit: '×',
          rounds: [loaded.medianMib / medianOf(empty.map((one) => one.medianMib))],
          target: { atMost: 1 + WITHIN },
          losses
        }),
        figureOf({ name: 'peak with readings waiting', unit: 'MiB', rounds: [loaded.peakMib] }),
        figureOf({ name: 'after filling, before a restart', unit: 'MiB', rounds: filled }),
        figureOf({ name: 'idle after the start', unit: 'MiB', rounds: idle }),
        figureOf({ name: 'processor time', unit: 'µs/msg', rounds: empty.map((one) => one.cpuUs) }),
        figureOf({ name: 'PUBACK p99', unit: 'ms', rounds: empty.map((one) => one.p99Ms) })
      ],
      notes: [
        `open loop on raw sockets, ${MACHINES} connections; the limit of 150 MB is ${LIMIT_MIB.toFixed(0)} MiB; no cloud`
      ],
      skipped: null
    }
  }
}

type Measured = { peakMib: number; medianMib: number; cpuUs: number; p99Ms: number; losses: Losses }

function open(context: Context, dataFolder: string): Promise<EdgeProcess> {
  return startEdgeProcess(context, { dataFolder, env: { EDGE_BUFFER_MAX_BYTES: BUFFER } })
}

async function fill(context: Context, dataFolder: string, readings: number, filled: number[]): Promise<void> {
  const edge = await open(context, dataFolder)
  await runLoad(context, 'load/fill.ts', { port: edge.brokerPort, readings, seed: context.seed }, amount)
  filled.push(residentBytes(edge.pid) / MIB)
  await edge.stop()
}

/** Ends the edge. */
async function measure(context: Context, edge: EdgeProcess, round: number): Promise<Measured> {
  const warmUpMs = context.pick(5_000, 2_000)
  const forMs = warmUpMs + context.pick(30_000, 5_000)
  const before = await edge.health()
  const plant = startTeller(context, 'load/plant.ts', {
    port: edge.brokerPort,
    machines: MACHINES,
    quantities: QUANTITIES,
    hz: HZ,
    forMs,
    warmUpMs,
    seed: context.seed + round
  })
  await plant.next(z.object({ startMs: z.number() }))
  await pause(warmUpMs)
  const startS = processorSeconds(edge.pid)
  const memory = sampleMemory(edge.pid)
  await pause(forMs - warmUpMs)
  const cpuUs = ((processorSeconds(edge.pid) - startS) / ((forMs - warmUpMs) * 10)) * 1e6
  const { peakBytes, medianBytes } = await memory.stop()
  const { acknowledged, latency } = await plant.next(openLoop)
  const losses = lossesAt(before.sums, (await edge.health()).sums, acknowledged)
  await edge.stop()
  return { peakMib: peakBytes / MIB, medianMib: medianBytes / MIB, cpuUs, p99Ms: latency.p99Ms, losses }
}
