// `GET /metrics` for Prometheus, in a registry of its own; filled at each scrape from the report that `/health` shows.
// Labels take few values: a gateway is none of them, there may be ten thousand.
import type { FastifyInstance } from 'fastify'
import { Counter, Gauge, Registry } from 'prom-client'
import type { BridgeReport, GatewayState } from '../status.ts'
import { isLocal } from './access.ts'

type Sample = { labels?: Record<string, string>; value: number }
type Metric = { name: string; help: string; labels?: string[]; of: (report: BridgeReport) => Sample[] }

/** None is what Prometheus takes for unknown. */
function one(value: number | boolean | null | undefined): Sample[] {
  return value === null || value === undefined ? [] : [{ value: Number(value) }]
}

function labelled(label: string, values: Record<string, number>): Sample[] {
  return Object.entries(values).map(([name, value]) => ({ labels: { [label]: name }, value }))
}

function snakeCase(values: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value
    ])
  )
}

const COUNTERS: Metric[] = [
  {
    name: 'received_batches_total',
    help: 'Batches that arrived since the start, sent again or not',
    of: ({ ingest }) => one(ingest.batches.received)
  },
  {
    name: 'answered_batches_total',
    help: 'Batches answered without storing anything since the start, by result',
    labels: ['result'],
    of: ({ ingest }) => {
      const { replays, forks } = ingest.batches
      return labelled('result', { replay: replays, fork: forks, ...snakeCase(ingest.refused) })
    }
  },
  {
    name: 'records_total',
    help: 'Records of committed batches since the start, by what became of them',
    labels: ['result'],
    of: ({ ingest }) => labelled('result', snakeCase(ingest.records))
  },
  {
    name: 'transactions_total',
    help: 'Committed transactions of ingest since the start',
    of: ({ ingest }) => one(ingest.batches.transactions)
  },
  {
    name: 'statuses_total',
    help: 'Statuses of gateways since the start, by result',
    labels: ['result'],
    of: ({ statuses }) => labelled('result', snakeCase(statuses))
  },
  {
    name: 'broker_refused_connections_total',
    help: 'Connections that the embedded broker did not let in, or closed for what they sent',
    of: ({ broker }) => one(broker.figures?.refusedConnections)
  },
  {
    name: 'broker_refused_publishes_total',
    help: 'Publishes to topics of the embedded broker that are not the publisher’s',
    of: ({ broker }) => one(broker.figures?.refusedPublishes)
  },
  {
    name: 'broker_let_go_batches_total',
    help: 'Batches that the embedded broker threw away because the bridge took none; their edges send them again',
    of: ({ broker }) => one(broker.figures?.letGo)
  }
]

const GAUGES: Metric[] = [
  {
    name: 'build_info',
    help: 'Always 1; the label says what runs',
    labels: ['version'],
    of: ({ version }) => [{ labels: { version }, value: 1 }]
  },
  {
    name: 'health',
    help: 'Health: 2 ok, 1 degraded, 0 failing',
    of: ({ status }) => one({ ok: 2, degraded: 1, failing: 0 }[status])
  },
  { name: 'ready', help: '1 when batches become rows', of: ({ ready }) => one(ready) },
  {
    name: 'problems',
    help: 'Problems shown on /health',
    of: ({ problems, notReady }) => one(problems.length + notReady.length)
  },
  { name: 'database_up', help: '1 when the database answers', of: ({ database }) => one(database.state === 'up') },
  {
    name: 'schema_current',
    help: '1 when all migrations of this program are applied',
    of: ({ database }) => one(database.schema?.state === 'current')
  },
  {
    name: 'broker_up',
    help: '1 when connected to the broker and subscribed',
    of: ({ broker }) => one(broker.state === 'up')
  },
  {
    name: 'broker_connections',
    help: 'Open connections to the embedded broker',
    of: ({ broker }) => one(broker.figures?.connections)
  },
  {
    name: 'ingest_held',
    help: '1 while the database takes no records',
    of: ({ ingest }) => one(ingest.state === 'held')
  },
  { name: 'held_batches', help: 'Batches taken and not yet answered', of: ({ ingest }) => one(ingest.heldBatches) },
  {
    name: 'waiting_batches',
    help: 'Batches that the embedded broker holds back because the bridge has enough',
    of: ({ broker }) => one(broker.figures?.waiting)
  },
  {
    name: 'last_commit_timestamp_seconds',
    help: 'When the last transaction of this process was committed, Unix time; absent before the first',
    of: ({ ingest }) => one(ingest.lastCommitAt === null ? null : Date.parse(ingest.lastCommitAt) / 1_000)
  },
  {
    name: 'gateways',
    help: 'Known gateways by state',
    labels: ['state'],
    of: ({ gateways }) => {
      const counts: Record<GatewayState, number> = { online: 0, offline: 0, silent: 0, unknown: 0 }
      for (const { state } of gateways) counts[state] += 1
      return labelled('state', counts)
    }
  },
  {
    name: 'gateways_alarmed',
    help: 'Gateways with an alarm',
    of: ({ gateways }) => one(gateways.filter(({ alarm }) => alarm !== null).length)
  },
  {
    name: 'gateways_unbalanced',
    help: 'Gateways whose acknowledged records the ledger lacks, or whose own sums don’t add up',
    of: ({ gateways }) =>
      one(
        gateways.filter(({ balances }) => balances.some(({ state }) => state === 'missing' || state === 'unequal'))
          .length
      )
  },
  {
    name: 'backlog_records',
    help: 'Records waiting at the edges, as they last said',
    of: ({ gateways }) => one(gateways.reduce((sum, { backlog }) => sum + (backlog?.records ?? 0), 0))
  },
  {
    name: 'max_lag_seconds',
    help: 'Age of the oldest record that an edge has and the cloud has not',
    of: ({ gateways }) => one(Math.max(0, ...gateways.map(({ lagS }) => lagS ?? 0)))
  },
  {
    name: 'dead_letters_open',
    help: 'Dead letters that nobody has settled',
    of: ({ deadLettersOpen }) => one(deadLettersOpen)
  },
  {
    name: 'process_resident_memory_bytes',
    help: 'Resident memory of the process',
    of: () => one(process.memoryUsage.rss())
  },
  {
    name: 'uptime_seconds',
    help: 'Since the start',
    of: ({ clock, startedAt }) => one((Date.parse(clock) - Date.parse(startedAt)) / 1_000)
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

export function metricsRoute(app: FastifyInstance, report: () => BridgeReport): void {
  const registry = new Registry()
  const shapeOf = ({ name, help, labels = [] }: Metric) => ({
    name: `millrace_bridge_${name}`,
    help,
    labelNames: labels,
    registers: [registry]
  })
  const counters = [...COUNTERS, ...PROCESS_COUNTERS].map((metric) => ({
    metric,
    counter: new Counter(shapeOf(metric))
  }))
  const gauges = GAUGES.map((metric) => ({ metric, gauge: new Gauge(shapeOf(metric)) }))

  app.get('/metrics', async (request, reply) => {
    if (!isLocal(request.raw)) {
      reply.code(403)
      return { error: 'forbidden', message: 'metrics are shown on the bridge’s own machine only' }
    }
    const now = report()
    for (const { metric, counter } of counters) {
      counter.reset()
      for (const { labels, value } of metric.of(now)) counter.inc(labels ?? {}, value)
    }
    for (const { metric, gauge } of gauges) {
      gauge.reset()
      if (metric.labels === undefined) gauge.remove()
      for (const { labels, value } of metric.of(now)) gauge.set(labels ?? {}, value)
    }
    reply.type(registry.contentType)
    return registry.metrics()
  })
}
