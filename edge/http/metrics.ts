// `/metrics` for Prometheus, in a registry of its own; filled at each scrape from the same status that `/health` shows.
import { Counter, Gauge, Registry } from 'prom-client'
import type { LocalStatus } from '../status.ts'
import type { Route } from './answer.ts'

type Sample = { labels?: Record<string, string | number>; value: number }
type Metric = { name: string; help: string; labels?: string[]; of: (status: LocalStatus) => Sample[] }

/** One sample without labels; null: none, which is what Prometheus takes for unknown. */
function one(value: number | boolean | null | undefined): Sample[] {
  return value === null || value === undefined ? [] : [{ value: Number(value) }]
}

/** Over all epochs: a total never falls when records move to a new epoch. */
function total(
  status: LocalStatus,
  of: 'received' | 'filtered' | 'duplicate' | 'accepted' | 'rejected' | 'evicted' | 'acknowledged'
): Sample[] {
  return one(status.sums.reduce((sum, sums) => sum + sums[of], 0))
}

/** The label of each sum. */
const EPOCH_SUMS = [
  ['received', 'received'],
  ['filtered', 'filtered'],
  ['duplicate', 'duplicate'],
  ['accepted', 'accepted'],
  ['rejected', 'rejected'],
  ['pending', 'pending'],
  ['evicted', 'evicted'],
  ['acknowledged', 'acknowledged'],
  ['stored', 'stored'],
  ['cloud_duplicate', 'cloudDuplicates'],
  ['dead_lettered', 'deadLettered']
] as const

const COUNTERS: Metric[] = [
  {
    name: 'received_records_total',
    help: 'Records decoded from what came in',
    of: (status) => total(status, 'received')
  },
  { name: 'filtered_records_total', help: 'Records that a policy left out', of: (status) => total(status, 'filtered') },
  {
    name: 'duplicate_records_total',
    help: 'Records that were known already',
    of: (status) => total(status, 'duplicate')
  },
  { name: 'accepted_records_total', help: 'Records taken into the buffer', of: (status) => total(status, 'accepted') },
  {
    name: 'rejected_records_total',
    help: 'Accepted records that could not be read, or conflict with earlier ones',
    of: (status) => total(status, 'rejected')
  },
  {
    name: 'evicted_records_total',
    help: 'Records that gave way in a full buffer',
    of: (status) => total(status, 'evicted')
  },
  {
    name: 'acknowledged_records_total',
    help: 'Records that the cloud has committed',
    of: (status) => total(status, 'acknowledged')
  },
  { name: 'intake_messages_total', help: 'Messages taken since the start', of: ({ intake }) => one(intake.messages) },
  { name: 'intake_bytes_total', help: 'Payload bytes taken since the start', of: ({ intake }) => one(intake.bytes) },
  {
    name: 'intake_dropped_messages_total',
    help: 'QoS 0 messages left out because the buffer was behind',
    of: ({ intake }) => one(intake.dropped)
  },
  {
    name: 'door_messages_total',
    help: 'Messages that arrived at a door since the start',
    labels: ['door'],
    of: ({ doors }) => doors.map((door) => ({ labels: { door: door.name }, value: door.messages }))
  },
  {
    name: 'broker_refused_connections_total',
    help: 'Connections that the packet guard closed',
    of: ({ connections }) => one(connections?.refused)
  },
  {
    name: 'uplink_sent_batches_total',
    help: 'Batches sent, resends included',
    of: ({ uplink }) => one(uplink.sentBatches)
  },
  {
    name: 'uplink_sent_bytes_total',
    help: 'Bytes of batches sent, resends included',
    of: ({ uplink }) => one(uplink.sentBytes)
  },
  { name: 'uplink_resent_batches_total', help: 'Batches sent again', of: ({ uplink }) => one(uplink.resends) },
  {
    name: 'uplink_stray_answers_total',
    help: 'Answers that named no batch in flight',
    of: ({ uplink }) => one(uplink.strayAnswers)
  },
  {
    name: 'buffer_ignored_answers_total',
    help: 'Answers that fit no waiting batch',
    of: ({ buffer }) => one(buffer.ignoredAcks)
  },
  {
    name: 'buffer_damaged_batches_total',
    help: 'Waiting batches found damaged in the file',
    of: ({ buffer }) => one(buffer.damaged)
  }
]

const GAUGES: Metric[] = [
  { name: 'build_info', help: 'Always 1; the labels say what runs', labels: ['version', 'gateway'], of: info },
  {
    name: 'health',
    help: 'Health: 2 ok, 1 degraded, 0 failing',
    of: ({ health }) => one({ ok: 2, degraded: 1, failing: 0 }[health])
  },
  { name: 'problems', help: 'Problems shown on /health', of: ({ problems }) => one(problems.length) },
  {
    name: 'sums_balanced',
    help: '1 when the sums of accepted, pending and acknowledged records add up',
    of: ({ balanced }) => one(balanced)
  },
  {
    name: 'epoch_records',
    help: 'The sums of each epoch and lane, in records',
    labels: ['epoch', 'lane', 'sum'],
    of: ({ sums }) =>
      sums.flatMap((of) =>
        EPOCH_SUMS.map(([sum, key]) => ({ labels: { epoch: of.epoch, lane: of.lane, sum }, value: of[key] }))
      )
  },
  { name: 'backlog_records', help: 'Records waiting to be acknowledged', of: ({ backlog }) => one(backlog?.records) },
  { name: 'backlog_bytes', help: 'Bytes of the records waiting', of: ({ backlog }) => one(backlog?.bytes) },
  {
    name: 'backlog_oldest_age_seconds',
    help: 'Age of the oldest record waiting, 0 when none waits',
    of: ({ backlog }) => one(backlog?.oldestS)
  },
  {
    name: 'time_to_full_seconds',
    help: 'Until the buffer is full at the present rates; absent when it does not fill',
    of: ({ toFullS }) => one(toFullS)
  },
  {
    name: 'time_to_drain_seconds',
    help: 'Until nothing waits at the present rates; absent when it does not drain',
    of: ({ toDrainS }) => one(toDrainS)
  },
  {
    name: 'buffer_used_bytes',
    help: 'Pages of the buffer file in use, and its log',
    of: ({ disk }) => one(disk?.usedBytes)
  },
  { name: 'buffer_limit_bytes', help: 'The most that the buffer may use', of: ({ disk }) => one(disk?.maxBytes) },
  {
    name: 'buffer_full',
    help: '1 while the buffer is full and publishes are not acknowledged',
    of: ({ buffer }) => one(buffer.full)
  },
  {
    name: 'volume_free_bytes',
    help: 'Free space of the volume that the buffer is on',
    of: ({ disk }) => one(disk?.freeBytes)
  },
  {
    name: 'intake_held_messages',
    help: 'Messages taken and not yet on the disk',
    of: ({ intake }) => one(intake.heldMessages)
  },
  {
    name: 'intake_held_bytes',
    help: 'Payload bytes taken and not yet on the disk',
    of: ({ intake }) => one(intake.heldBytes)
  },
  {
    name: 'door_up',
    help: '1 when a door takes messages',
    labels: ['door'],
    of: ({ doors }) => doors.map((door) => ({ labels: { door: door.name }, value: Number(door.state === 'up') }))
  },
  {
    name: 'broker_connections',
    help: 'Open connections to the embedded broker',
    of: ({ connections }) => one(connections?.open)
  },
  {
    name: 'uplink_up',
    help: '1 when the uplink is connected and subscribed',
    of: ({ uplink }) => one(uplink.state === 'up')
  },
  { name: 'uplink_held', help: '1 when sending is held', of: ({ uplink }) => one(uplink.held !== null) },
  {
    name: 'uplink_in_flight_batches',
    help: 'Batches sent and not yet answered',
    of: ({ uplink }) => one(uplink.inFlight)
  },
  {
    name: 'uplink_last_ack_age_seconds',
    help: 'Since the last batch was freed; absent when none was',
    of: ({ lastAckAgeS }) => one(lastAckAgeS)
  },
  { name: 'uptime_seconds', help: 'Since the start', of: ({ uptimeS }) => one(uptimeS) },
  {
    name: 'process_resident_memory_bytes',
    help: 'Resident memory of the process',
    of: () => one(process.memoryUsage.rss())
  },
  {
    name: 'process_heap_used_bytes',
    help: 'JavaScript heap of the main thread in use',
    of: () => one(process.memoryUsage().heapUsed)
  }
]

const PROCESS_COUNTERS: Metric[] = [
  {
    name: 'process_cpu_seconds_total',
    help: 'CPU time of the process, user and system',
    of() {
      const { user, system } = process.cpuUsage()
      return one((user + system) / 1e6)
    }
  }
]

export function metricsRoute(status: () => Promise<LocalStatus>): Route {
  const registry = new Registry()
  const nameOf = ({ name }: Metric) => `millrace_edge_${name}`
  const shapeOf = (metric: Metric) => ({
    name: nameOf(metric),
    help: metric.help,
    labelNames: metric.labels ?? [],
    registers: [registry]
  })
  const counters = [...COUNTERS, ...PROCESS_COUNTERS].map((metric) => ({
    metric,
    counter: new Counter(shapeOf(metric))
  }))
  const gauges = GAUGES.map((metric) => ({ metric, gauge: new Gauge(shapeOf(metric)) }))
  return async () => {
    const now = await status()
    for (const { metric, counter } of counters) {
      counter.reset()
      for (const { labels, value } of metric.of(now)) counter.inc(labels ?? {}, value)
    }
    for (const { metric, gauge } of gauges) {
      gauge.reset()
      if ((metric.labels ?? []).length === 0) gauge.remove()
      for (const { labels, value } of metric.of(now)) gauge.set(labels ?? {}, value)
    }
    return { status: 200, contentType: registry.contentType, body: await registry.metrics() }
  }
}

function info(status: LocalStatus): Sample[] {
  return [{ labels: { version: status.version ?? '', gateway: status.gateway }, value: 1 }]
}
