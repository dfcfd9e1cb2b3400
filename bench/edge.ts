// The edge as a process, as it runs in a plant: its own main, its defaults, its file on the measured disk.
import { z } from 'zod'
import { freePort } from '../demo/free-port.ts'
import { doorState, epochSums } from '../shared/status.ts'
import type { Context } from './bench.ts'
import { until } from './faults/until.ts'
import type { Losses } from './figures.ts'
import { startPart } from './program.ts'

const health = z.object({
  balanced: z.boolean(),
  sums: z.array(epochSums),
  doors: z.array(doorState),
  backlog: z.object({ records: z.int(), bytes: z.int() }),
  disk: z.object({ usedBytes: z.int() })
})

/** Over all lanes and epochs. */
export type EdgeSums = {
  received: number
  accepted: number
  duplicate: number
  rejected: number
  pending: number
  acknowledged: number
}
export type EdgeHealth = {
  balanced: boolean
  sums: EdgeSums
  /** All its doors take messages. */
  open: boolean
  backlogRecords: number
  backlogBytes: number
  usedBytes: number
}

export type EdgeProcess = {
  pid: number
  brokerPort: number
  /** From the start of the process to ready, ms. */
  readyMs: number
  health(): Promise<EdgeHealth>
  /** SIGTERM, in order. */
  stop(): Promise<void>
}

/** Nothing listens there: the edge is on its own. */
const NOWHERE = 'mqtt://127.0.0.1:9'
const READY_TIMEOUT_MS = 30_000
const REQUEST_TIMEOUT_MS = 10_000

export async function startEdgeProcess(
  context: Context,
  options: { dataFolder: string; uplinkUrl?: string; env?: Record<string, string> }
): Promise<EdgeProcess> {
  const brokerPort = await freePort()
  const httpPort = await freePort()
  const startMs = performance.now()
  const program = startPart(context, {
    name: 'edge',
    file: 'edge/main.ts',
    env: {
      EDGE_GATEWAY_ID: 'bench',
      EDGE_DATA_DIR: options.dataFolder,
      EDGE_BROKER_PORT: String(brokerPort),
      EDGE_HTTP_PORT: String(httpPort),
      EDGE_UPLINK_URL: options.uplinkUrl ?? NOWHERE,
      LOG_LEVEL: 'warn',
      ...options.env
    }
  })
  const get = (path: string) =>
    fetch(`http://127.0.0.1:${httpPort}${path}`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) })
  await until('the edge to be ready', READY_TIMEOUT_MS, async () => {
    if (program.ended() !== null) throw new Error(`the edge ended: ${JSON.stringify(program.ended())}`)
    return (await get('/health/ready').catch(() => null))?.ok
  })
  return {
    pid: program.pid,
    brokerPort,
    readyMs: performance.now() - startMs,
    async health() {
      const found = health.parse(await (await get('/health')).json())
      const sums = { received: 0, accepted: 0, duplicate: 0, rejected: 0, pending: 0, acknowledged: 0 }
      for (const lane of found.sums) {
        sums.received += lane.received
        sums.accepted += lane.accepted
        sums.duplicate += lane.duplicate
        sums.rejected += lane.rejected
        sums.pending += lane.pending
        sums.acknowledged += lane.acknowledged
      }
      return {
        balanced: found.balanced,
        sums,
        open: found.doors.every(({ state }) => state === 'up'),
        backlogRecords: found.backlog.records,
        backlogBytes: found.backlog.bytes,
        usedBytes: found.disk.usedBytes
      }
    },
    stop: () => program.stop()
  }
}

/** What of `sent` readings the edge has not, or has twice: what was taken as a repeat or rejected is not there as sent. */
export function lossesAt(before: EdgeSums, after: EdgeSums, sent: number): Losses {
  const accepted = after.accepted - after.rejected - (before.accepted - before.rejected)
  return { sent, lost: Math.max(0, sent - accepted), duplicates: Math.max(0, accepted - sent) }
}
