// The edge's broker door against the same aedes broker with the same options and guard, storing nothing.
import { z } from 'zod'
import type { Bench, Context } from '../bench.ts'
import { lossesAt, startEdgeProcess } from '../edge.ts'
import type { EdgeProcess } from '../edge.ts'
import { figureOf, sumOfLosses } from '../figures.ts'
import type { Figure, Losses } from '../figures.ts'
import { closedLoop } from '../load/findings.ts'
import { runLoad, startTeller } from '../program.ts'
import { processorSeconds } from '../sampler.ts'

const CLIENTS = 20
const IN_FLIGHT = 50
/** As edge/doors/broker.ts opens it. */
const BROKER = { drainTimeout: 5_000, maxClientsIdLength: 256, guarded: true }

type Kind = { file: string; label: string; target: boolean }
const KINDS: readonly Kind[] = [
  { file: 'load/clients.ts', label: 'mqtt.js clients', target: true },
  { file: 'load/raw-clients.ts', label: 'raw sockets (harder)', target: false }
]

export const doorBench: Bench = {
  name: 'door',
  about: 'messages/s of 20 clients, QoS 1, acknowledged after the fsynced commit, against the bare broker',
  expectedS: { once: 4, round: 15 },
  async run(context) {
    const edge = await startEdgeProcess(context, { dataFolder: context.folder('edge') })
    const bare = await startTeller(context, 'peers/bare-broker.ts', BROKER).next(z.object({ port: z.int() }))
    const figures: Figure[] = []
    for (const kind of KINDS) figures.push(...(await measure(context, kind, edge, bare.port)))
    return {
      figures,
      notes: [
        `${CLIENTS} clients in one load process with ${IN_FLIGHT} messages in flight each; edge and load share the machine's cores`,
        'the bare broker has the edge’s aedes version, options and packet guard; the edge seals batches meanwhile and has no cloud'
      ],
      skipped: null
    }
  }
}

async function measure(context: Context, kind: Kind, edge: EdgeProcess, barePort: number): Promise<Figure[]> {
  const stored: Measured[] = []
  const bare: Measured[] = []
  const cpu: number[] = []
  const losses: Losses[] = []
  for (let round = 0; round < context.rounds; round++) {
    bare.push(await load(context, kind, barePort, round))
    const before = (await edge.health()).sums
    const startS = processorSeconds(edge.pid)
    const measured = await load(context, kind, edge.brokerPort, round)
    cpu.push(((processorSeconds(edge.pid) - startS) / measured.sent) * 1e6)
    stored.push(measured)
    losses.push(lossesAt(before, (await edge.health()).sums, measured.acknowledged))
    context.say(
      `${kind.label}, round ${round + 1}: ${Math.round(measured.perSecond)} of ${Math.round(bare[round]?.perSecond ?? 0)} msg/s`
    )
  }
  const ratios = stored.map(({ perSecond }, round) => perSecond / (bare[round]?.perSecond ?? Number.NaN))
  const sum = sumOfLosses(losses)
  return [
    figureOf({
      name: `of the bare broker, ${kind.label}`,
      unit: '×',
      rounds: ratios,
      losses: sum,
      ...(kind.target ? { target: { atLeast: 0.9 } } : {})
    }),
    figureOf({
      name: `edge, ${kind.label}`,
      unit: 'msg/s',
      rounds: stored.map(({ perSecond }) => perSecond),
      losses: sum
    }),
    figureOf({ name: `bare broker, ${kind.label}`, unit: 'msg/s', rounds: bare.map(({ perSecond }) => perSecond) }),
    figureOf({
      name: `edge PUBACK p50, ${kind.label}`,
      unit: 'ms',
      rounds: stored.map(({ latency }) => latency.p50Ms)
    }),
    figureOf({
      name: `edge PUBACK p99, ${kind.label}`,
      unit: 'ms',
      rounds: stored.map(({ latency }) => latency.p99Ms)
    }),
    figureOf({ name: `edge processor time, ${kind.label}`, unit: 'µs/msg', rounds: cpu })
  ]
}

type Measured = z.infer<typeof closedLoop>

function load(context: Context, kind: Kind, port: number, round: number): Promise<Measured> {
  const task = {
    port,
    clients: CLIENTS,
    inFlight: IN_FLIGHT,
    warmUpMs: context.pick(2_000, 1_000),
    measureMs: context.pick(5_000, 2_000),
    seed: context.seed + round
  }
  return runLoad(context, kind.file, task, closedLoop)
}
