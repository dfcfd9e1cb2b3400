// What is shown of a gateway: its own word beside the ledger's.
import { LANES } from '../../shared/batch/envelope.ts'
import type { EpochSums } from '../../shared/status.ts'
import { balanceOf } from './balance.ts'
import type { Balance } from './balance.ts'
import type { HeardGateway } from './gateways.ts'
import type { GatewayRow, LaneRow, LedgerFacts } from './ledger.ts'

export type GatewayReport = {
  gateway: string
  /** `silent`: it hasn't said that it goes, and hasn't been heard of. `unknown`: only the ledger knows it. */
  state: 'online' | 'offline' | 'silent' | 'unknown'
  version: string | null
  /** ISO 8601. */
  lastSeenAt: string | null
  lastCommitAt: string | null
  epoch: string | null
  backlog: { records: number; bytes: number } | null
  /** Age of the oldest record that the cloud hasn't got, s; 0 when it has all; null when unknown. */
  lagS: number | null
  balances: Balance[]
  deadLettersOpen: number | null
  alarm: string | null
  /** As the edge says. */
  problems: string[]
}

/** A status comes every 10 s. */
const SILENT_AFTER_MS = 35_000

/** `compared`: what had come in when the ledger was read; its sums are compared. `ledger` null: not read. */
export function reportGateways(options: {
  heard: ReadonlyMap<string, HeardGateway>
  compared: ReadonlyMap<string, HeardGateway>
  ledger: LedgerFacts | null
  nowMs: number
}): GatewayReport[] {
  const { heard, compared, ledger, nowMs } = options
  const rows = new Map(ledger?.gateways.map((row) => [row.gateway_id, row]))
  const lanes = Map.groupBy(ledger?.lanes ?? [], (lane) => lane.gateway_id)
  const letters = ledger?.openDeadLetters ?? new Map<string, number>()
  const names = [...new Set([...heard.keys(), ...rows.keys(), ...lanes.keys(), ...letters.keys()])].sort()
  return names.map((gateway) =>
    reportOf(gateway, {
      heard: heard.get(gateway) ?? null,
      row: rows.get(gateway) ?? null,
      sums: ledger === null ? null : (compared.get(gateway)?.status.sums ?? []),
      lanes: lanes.get(gateway) ?? [],
      deadLettersOpen: ledger === null ? null : (letters.get(gateway) ?? 0),
      nowMs
    })
  )
}

type Known = {
  heard: HeardGateway | null
  row: GatewayRow | null
  sums: EpochSums[] | null
  lanes: LaneRow[]
  deadLettersOpen: number | null
  nowMs: number
}

function reportOf(gateway: string, known: Known): GatewayReport {
  const { heard, row, lanes, nowMs } = known
  const status = heard?.status ?? null
  const seenMs = Math.max(heard?.seenAtMs ?? 0, row?.last_seen.getTime() ?? 0)
  const committedMs = Math.max(0, ...lanes.map((lane) => lane.last_commit_at?.getTime() ?? 0))
  const epoch = status?.epoch ?? row?.epoch ?? null
  const backlog = status?.backlog ?? null
  const statusAgeS = heard === null ? 0 : Math.max(0, nowMs - (heard.seenAtMs ?? heard.receivedAtMs)) / 1_000
  return {
    gateway,
    state: stateOf(heard, nowMs),
    version: status?.version ?? null,
    lastSeenAt: isoOf(seenMs),
    lastCommitAt: isoOf(committedMs),
    epoch,
    backlog: backlog === null ? null : { records: backlog.records, bytes: backlog.bytes },
    lagS: backlog === null ? null : backlog.records === 0 ? 0 : backlog.oldestS + statusAgeS,
    balances: epoch === null ? [] : balancesOf(known, epoch),
    deadLettersOpen: known.deadLettersOpen,
    alarm: row?.alarm ?? null,
    problems: status?.problems ?? []
  }
}

function stateOf(heard: HeardGateway | null, nowMs: number): GatewayReport['state'] {
  if (heard === null) return 'unknown'
  if (!heard.status.online) return 'offline'
  return nowMs - (heard.seenAtMs ?? 0) > SILENT_AFTER_MS ? 'silent' : 'online'
}

function balancesOf({ sums, lanes }: Known, epoch: string): Balance[] {
  if (sums === null) return []
  return LANES.flatMap((lane) => {
    const edge = sums.find((sum) => sum.epoch === epoch && sum.lane === lane) ?? null
    const ledger = lanes.find((row) => row.epoch === epoch && row.lane === lane) ?? null
    return edge === null && ledger === null ? [] : [balanceOf(edge, ledger, { epoch, lane })]
  })
}

function isoOf(ms: number): string | null {
  return ms <= 0 ? null : new Date(ms).toISOString()
}
