// What the bridge says of itself: whether it is ready, what is wrong, and how each gateway's records fare.
//
// `failing`: not ready, no batch can become rows. `degraded`: it works, and something needs a person. A report is made of
// what was last seen, at once, whatever hangs.
import manifest from '../package.json' with { type: 'json' }
import type { ConnectionState } from '../shared/mqtt/connection.ts'
import type { BrokerFigures } from './broker.ts'
import type { Receiver, ReceiverCounts } from './ingest/receive.ts'
import type { Writer, WriterState } from './ingest/write.ts'
import type { DatabaseState, DatabaseWatch } from './status/database-watch.ts'
import { reportGateways } from './status/gateway-report.ts'
import type { GatewayReport } from './status/gateway-report.ts'
import type { GatewayCounts, GatewayWatch, HeardGateway } from './status/gateways.ts'

export type GatewayState = GatewayReport['state']

export type BridgeReport = {
  status: 'ok' | 'degraded' | 'failing'
  ready: boolean
  /** Why it isn't ready, each with a way out. */
  notReady: string[]
  /** What else needs a person. */
  problems: string[]
  version: string
  startedAt: string
  /** The bridge's clock, ISO 8601. */
  clock: string
  broker: {
    kind: 'embedded' | 'external'
    /** Without user and password. */
    address: string
    state: 'up' | 'down'
    detail: string | null
    shared: boolean
    figures: BrokerFigures | null
  }
  database: Omit<DatabaseState, 'ledger'>
  ingest: {
    state: 'waiting for the database' | 'running' | 'held'
    /** Batches taken and not yet answered. */
    heldBatches: number
    hold: WriterState['held']
    lastCommitAt: string | null
    batches: { received: number; transactions: number; replays: number; forks: number }
    refused: Pick<ReceiverCounts, 'wrongGateway' | 'wrongDigest' | 'unsupportedVersion' | 'unreadable' | 'foreignTopic'>
    records: { stored: number; duplicates: number; deadLettered: number; evicted: number }
  }
  statuses: GatewayCounts
  gateways: GatewayReport[]
  deadLettersOpen: number | null
  deadLettersTruncated: boolean
}

export type BridgeParts = {
  brokerKind: 'embedded' | 'external'
  brokerAddress: string
  brokerFigures: () => BrokerFigures | null
  database: Pick<DatabaseWatch, 'state'>
  gateways: GatewayWatch
  /** Null until the database is there and its schema current. */
  ingest: () => { writer: Pick<Writer, 'state'>; receiver: Pick<Receiver, 'state'> } | null
  startedAtMs: number
  now: () => number
}

export type StatusReporter = {
  report(): BridgeReport
  /** Around a look at the ledger: it is compared with what the gateways had said before, so that it has at least that. */
  beforeLook(): void
  afterLook(): void
}

const NO_COUNTS: ReceiverCounts = {
  received: 0,
  redelivered: 0,
  retained: 0,
  unacknowledged: 0,
  foreignTopic: 0,
  wrongGateway: 0,
  wrongDigest: 0,
  unsupportedVersion: 0,
  unreadable: 0,
  answersLost: 0
}

export function createReporter(parts: BridgeParts): StatusReporter {
  let compared: ReadonlyMap<string, HeardGateway> = new Map()
  let pending: ReadonlyMap<string, HeardGateway> = new Map()

  return {
    beforeLook() {
      pending = new Map(parts.gateways.heard())
    },
    afterLook() {
      compared = pending
    },
    report() {
      const nowMs = parts.now()
      const { ledger, ...database } = parts.database.state()
      const ingest = parts.ingest()
      const receiver = ingest?.receiver.state() ?? null
      const writer = ingest?.writer.state() ?? null
      const connection = receiver?.connection ?? parts.gateways.connection()
      const notReady = [
        ...databaseProblem(database),
        ...connectionProblem(connection, parts.brokerAddress),
        ...(writer?.held
          ? [`ingest is held since ${writer.held.since}: ${writer.held.message}; ${writer.held.hint}`]
          : [])
      ]
      if (notReady.length === 0 && ingest === null) notReady.push('ingest is starting')
      const gateways = reportGateways({ heard: parts.gateways.heard(), compared, ledger, nowMs })
      const problems = gateways.flatMap(problemsOf)
      const ready = notReady.length === 0
      const counts = receiver?.counts ?? NO_COUNTS
      return {
        status: !ready ? 'failing' : problems.length > 0 ? 'degraded' : 'ok',
        ready,
        notReady,
        problems,
        version: manifest.version,
        startedAt: new Date(parts.startedAtMs).toISOString(),
        clock: new Date(nowMs).toISOString(),
        broker: {
          kind: parts.brokerKind,
          address: parts.brokerAddress,
          state: isUp(connection) ? 'up' : 'down',
          detail: isUp(connection) ? null : describe(connection),
          shared: receiver?.shared ?? false,
          figures: parts.brokerFigures()
        },
        database,
        ingest: {
          state: writer === null ? 'waiting for the database' : writer.held === null ? 'running' : 'held',
          heldBatches: Math.max(receiver?.held ?? 0, writer?.waiting ?? 0),
          hold: writer?.held ?? null,
          lastCommitAt: writer?.lastCommitAt ?? null,
          batches: {
            received: counts.received,
            transactions: writer?.transactions ?? 0,
            replays: writer?.replays ?? 0,
            forks: writer?.forks ?? 0
          },
          refused: {
            wrongGateway: counts.wrongGateway,
            wrongDigest: counts.wrongDigest,
            unsupportedVersion: counts.unsupportedVersion,
            unreadable: counts.unreadable,
            foreignTopic: counts.foreignTopic
          },
          records: {
            stored: writer?.stored ?? 0,
            duplicates: writer?.duplicates ?? 0,
            deadLettered: writer?.deadLettered ?? 0,
            evicted: writer?.evicted ?? 0
          }
        },
        statuses: parts.gateways.counts(),
        gateways,
        deadLettersOpen: ledger === null ? null : [...ledger.openDeadLetters.values()].reduce((sum, n) => sum + n, 0),
        deadLettersTruncated: ledger?.deadLettersTruncated ?? false
      }
    }
  }
}

function databaseProblem({ state, address, problem, hint, schema }: BridgeReport['database']): string[] {
  if (state !== 'up') {
    if (state === 'connecting') return [`the database at ${address} is not yet connected`]
    return [`database: ${problem ?? 'not reached'}${hint === null ? '' : `; ${hint}`}`]
  }
  if (schema === null || schema.state === 'current') return []
  const at = `it is at ${schema.version ?? 'nothing'}, this program needs ${schema.expected}`
  switch (schema.state) {
    case 'missing':
      return [`the database has no tables yet: run npm run migrate`]
    case 'behind':
      return [`migrations are missing (${at}): run npm run migrate`]
    case 'newer':
      return [`the schema is newer than this program (${at}): run the release that migrated it, or a later one`]
    case 'changed':
      return [`an applied migration was changed (${at}): npm run migrate says which`]
  }
}

function connectionProblem(connection: ConnectionState, address: string): string[] {
  return isUp(connection) ? [] : [`broker ${address}: ${describe(connection)}`]
}

function isUp(connection: ConnectionState): boolean {
  return connection.phase === 'connected' && connection.subscribed && connection.refusedFilters.length === 0
}

function describe(connection: ConnectionState): string {
  switch (connection.phase) {
    case 'connected': {
      const refused = connection.refusedFilters[0]
      return refused === undefined
        ? 'subscribing'
        : `it refuses the subscription to ${refused.filter}: ${refused.reason}`
    }
    case 'disconnected':
    case 'refused':
      return connection.reason
    default:
      return connection.phase
  }
}

function problemsOf({ gateway, alarm, balances }: GatewayReport): string[] {
  const problems = alarm === null ? [] : [`${gateway}: ${alarm}`]
  for (const { lane, state, difference } of balances) {
    if (state === 'missing') {
      problems.push(`${gateway}: the ledger lacks ${-(difference ?? 0)} acknowledged records of the lane ${lane}`)
    }
    if (state === 'unequal') problems.push(`${gateway}: the edge’s own sums of the lane ${lane} don’t add up`)
  }
  return problems
}
