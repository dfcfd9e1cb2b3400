// What the edges say of themselves: the last status of each gateway, in memory.
//
// Guarantees: at most `MAX_GATEWAYS` gateways, each at most `MAX_STATUS_BYTES`; a status that can't be read, or names
// another gateway than its topic, is counted and changes nothing.
import type { Log } from '../../shared/log.ts'
import { openConnection } from '../../shared/mqtt/connection.ts'
import type { ConnectionState, Delivery } from '../../shared/mqtt/connection.ts'
import { edgeStatus } from '../../shared/status.ts'
import type { EdgeStatus } from '../../shared/status.ts'
import { filterOf, parseTopic } from '../../shared/topics.ts'

export const MAX_GATEWAYS = 10_000
const MAX_STATUS_BYTES = 16_384
const RECEIVE_MAXIMUM = 100
const MAX_PACKET_BYTES = 2 ** 20

export type HeardGateway = {
  status: EdgeStatus
  /** When it was heard of live; of a retained status, what its clock said. Ms; null: never but by its will. */
  seenAtMs: number | null
  /** When the status came in, ms. */
  receivedAtMs: number
}

export type GatewayCounts = {
  received: number
  unreadable: number
  wrongGateway: number
  tooLarge: number
  tooMany: number
}

export type GatewayWatch = {
  heard(): ReadonlyMap<string, HeardGateway>
  connection(): ConnectionState
  counts(): GatewayCounts
  close(): Promise<void>
}

export function watchGateways(options: {
  url: string
  clientId: string
  /** Wall clock, ms. */
  now: () => number
  log: Log
  retry?: { baseMs: number; capMs: number }
}): GatewayWatch {
  const { now } = options
  const heard = new Map<string, HeardGateway>()
  const counts: GatewayCounts = { received: 0, unreadable: 0, wrongGateway: 0, tooLarge: 0, tooMany: 0 }
  const connection = openConnection({
    url: options.url,
    clientId: options.clientId,
    clean: true,
    receiveMaximum: RECEIVE_MAXIMUM,
    maxPacketBytes: MAX_PACKET_BYTES,
    subscriptions: [{ filter: filterOf('status'), qos: 1 }],
    onDelivery(delivery, done) {
      take(delivery)
      done(null)
    },
    ...(options.retry === undefined ? {} : { retry: options.retry }),
    log: options.log
  })

  function take({ topic, payload, retained }: Delivery): void {
    counts.received += 1
    const gateway = parseTopic(topic)?.gateway
    if (payload.length === 0 && gateway !== undefined) return void heard.delete(gateway)
    if (payload.length > MAX_STATUS_BYTES) {
      counts.tooLarge += 1
      return
    }
    const status = read(payload)
    if (status === null || gateway === undefined) {
      counts.unreadable += 1
    } else if (status.gateway !== gateway) {
      counts.wrongGateway += 1
    } else if (!heard.has(gateway) && heard.size >= MAX_GATEWAYS) {
      counts.tooMany += 1
    } else {
      heard.set(gateway, merge(heard.get(gateway), status, { retained, nowMs: now() }))
    }
  }

  return {
    heard: () => heard,
    connection: connection.state,
    counts: () => ({ ...counts }),
    close: connection.close
  }
}

function read(payload: Uint8Array): EdgeStatus | null {
  try {
    const parsed = edgeStatus.safeParse(JSON.parse(Buffer.from(payload).toString('utf8')))
    return parsed.success ? parsed.data : null
  } catch {
    return null
  }
}

/** The will says only that the gateway is gone: what it said before stays. */
function merge(
  before: HeardGateway | undefined,
  status: EdgeStatus,
  { retained, nowMs }: { retained: boolean; nowMs: number }
): HeardGateway {
  if (status.online) {
    const clockMs = status.clock === null ? Number.NaN : Date.parse(status.clock)
    const seenAtMs = retained ? (Number.isNaN(clockMs) ? null : Math.min(clockMs, nowMs)) : nowMs
    return { status, seenAtMs, receivedAtMs: nowMs }
  }
  const seenAtMs = before?.seenAtMs ?? null
  if (before === undefined || status.sums.length > 0) return { status, seenAtMs, receivedAtMs: nowMs }
  return { ...before, status: { ...before.status, online: false, problems: status.problems, doors: [] } }
}
