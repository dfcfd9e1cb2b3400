// The subscriber door against an mqtt.js client that throws its messages away: both take the same backlog of single
// readings from Mosquitto's queue for their session, in turn, each started anew; no publisher shares the machine with them.
// The first part of the backlog warms them up.
import { z } from 'zod'
import { pause } from '../../shared/retry.ts'
import type { Bench, Context } from '../bench.ts'
import { lossesAt, startEdgeProcess } from '../edge.ts'
import type { EdgeProcess, EdgeSums } from '../edge.ts'
import { until } from '../faults/until.ts'
import { figureOf, skippedBecause, sumOfLosses } from '../figures.ts'
import type { Losses } from '../figures.ts'
import { amount, progress } from '../load/findings.ts'
import { findProgram, startMosquitto } from '../mosquitto.ts'
import { runLoad, startTeller } from '../program.ts'
import { rateBetween } from '../rate.ts'
import type { Sample } from '../rate.ts'
import { processorSeconds } from '../sampler.ts'

const TOPIC = 'plant/#'
const MAX_IN_FLIGHT = 1_000
const CONFIG = [`max_inflight_messages ${MAX_IN_FLIGHT}`, 'max_queued_messages 0', 'log_type error', 'log_type warning']
const WARM_SHARE = 0.4
const SAMPLE_MS = 100
const DRAIN_TIMEOUT_MS = 300_000

export const sourceBench: Bench = {
  name: 'source',
  about: 'messages/s taken from Mosquitto by the subscriber door, against an mqtt.js client that throws them away',
  expectedS: { once: 5, round: 20 },
  async run(context) {
    const program = findProgram('mosquitto')
    if (program === null) return skippedBecause('the program mosquitto is not installed')
    const { port } = await startMosquitto(context, program, CONFIG)
    const url = `mqtt://127.0.0.1:${port}`
    const dataFolder = context.folder('edge')
    const messages = context.pick(400_000, 40_000)
    const edgeRates: number[] = []
    const sinkRates: number[] = []
    const cpu: number[] = []
    const losses: Losses[] = []
    let before = await openSessions(context, url, dataFolder)

    async function drainByEdge(): Promise<void> {
      const edge = await openEdge(context, url, dataFolder)
      edgeRates.push(rateBetween(await follow(edge, before, messages), messages * WARM_SHARE, messages))
      cpu.push((processorSeconds(edge.pid) / messages) * 1e6)
      const after = (await edge.health()).sums
      losses.push(lossesAt(before, after, messages))
      before = after
      await edge.stop()
    }
    async function drainBySink(): Promise<void> {
      const sink = openSink(context, url, messages)
      await sink.next(z.object({ subscribed: z.literal(true) }))
      sinkRates.push(rateBetween(await sink.next(progress), messages * WARM_SHARE, messages))
    }

    for (let round = 0; round < context.rounds; round++) {
      await runLoad(context, 'load/flood.ts', { port, messages, seed: context.seed + round }, amount)
      await drainBySink()
      await drainByEdge()
      context.say(
        `round ${round + 1}: ${Math.round(edgeRates[round] ?? 0)} of ${Math.round(sinkRates[round] ?? 0)} msg/s`
      )
    }
    const sum = sumOfLosses(losses)
    return {
      figures: [
        figureOf({
          name: 'of a client that throws away',
          unit: '×',
          rounds: edgeRates.map((rate, round) => rate / (sinkRates[round] ?? Number.NaN)),
          target: { atLeast: 0.8 },
          losses: sum
        }),
        figureOf({ name: 'subscriber door', unit: 'msg/s', rounds: edgeRates, losses: sum }),
        figureOf({ name: 'mqtt.js client', unit: 'msg/s', rounds: sinkRates }),
        figureOf({ name: 'door’s processor time, start included', unit: 'µs/msg', rounds: cpu })
      ],
      notes: [
        `a backlog of ${messages} messages of QoS 1, max_inflight_messages ${MAX_IN_FLIGHT}, MQTT 5; counted when stored, from ${WARM_SHARE * 100} % of it on`
      ],
      skipped: null
    }
  }
}

/** Both sessions exist before the first message. Gives the edge's sums then. */
async function openSessions(context: Context, url: string, dataFolder: string): Promise<EdgeSums> {
  const edge = await openEdge(context, url, dataFolder)
  const sink = openSink(context, url, 1)
  await sink.next(z.object({ subscribed: z.literal(true) }))
  await until('the edge to have subscribed', 10_000, async () => (await edge.health()).open)
  const { sums } = await edge.health()
  sink.stop()
  await sink.next(progress)
  await edge.stop()
  return sums
}

function openEdge(context: Context, url: string, dataFolder: string): Promise<EdgeProcess> {
  return startEdgeProcess(context, {
    dataFolder,
    env: { EDGE_SOURCE_URLS: url, EDGE_SOURCE_TOPICS: TOPIC, EDGE_BROKER: 'off' }
  })
}

function openSink(context: Context, url: string, messages: number) {
  return startTeller(context, 'peers/sink.ts', {
    url,
    clientId: 'sink',
    topic: TOPIC,
    messages,
    receiveMaximum: MAX_IN_FLIGHT
  })
}

async function follow(edge: EdgeProcess, before: EdgeSums, messages: number): Promise<Sample[]> {
  const samples: Sample[] = []
  const deadlineMs = performance.now() + DRAIN_TIMEOUT_MS
  for (;;) {
    const { sums } = await edge.health()
    const count = sums.accepted - before.accepted
    samples.push({ atMs: performance.now(), count })
    if (count >= messages) return samples
    if (performance.now() > deadlineMs) throw new Error(`the edge took ${count} of ${messages} messages`)
    await pause(SAMPLE_MS)
  }
}
