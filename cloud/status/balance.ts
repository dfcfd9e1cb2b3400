// The edge's sums against the ledger's, for the same epoch and lane (promise 5).
//
//   edge:   received = filtered + duplicate + accepted;  accepted = pending + evicted + acknowledged
//   bridge: acknowledged = stored + duplicates + dead_lettered, from the ledger
import type { EpochSums } from '../../shared/status.ts'
import type { LaneRow } from './ledger.ts'

export type Balance = {
  epoch: string
  lane: EpochSums['lane']
  /** As the edge says; null when it hasn't said anything of this epoch. */
  edge: { received: number; accepted: number; pending: number; evicted: number; acknowledged: number } | null
  ledger: { acknowledged: number; stored: number; duplicates: number; deadLettered: number; evicted: number }
  /** ledger − edge, in acknowledged records; null without the edge's word. */
  difference: number | null
  /**
   * `balanced`: equal. `in flight`: the ledger has more, the answers are on their way. `missing`: the edge was told of
   * more than the ledger has: the database fell back, or is another one. `unequal`: the edge's own sums don't add up.
   */
  state: 'balanced' | 'in flight' | 'missing' | 'unequal' | 'unknown'
}

export function balanceOf(
  edge: EpochSums | null,
  ledger: LaneRow | null,
  names: { epoch: string; lane: EpochSums['lane'] }
): Balance {
  const { stored = 0, duplicates = 0, dead_lettered: deadLettered = 0, evicted = 0 } = ledger ?? {}
  const acknowledged = stored + duplicates + deadLettered
  const base = { ...names, ledger: { acknowledged, stored, duplicates, deadLettered, evicted } }
  if (edge === null) return { ...base, edge: null, difference: null, state: 'unknown' }
  const difference = acknowledged - edge.acknowledged
  const { received, accepted, pending } = edge
  const addsUp =
    received === edge.filtered + edge.duplicate + accepted && accepted === pending + edge.evicted + edge.acknowledged
  const compared = difference === 0 ? 'balanced' : difference > 0 ? 'in flight' : 'missing'
  return {
    ...base,
    edge: { received, accepted, pending, evicted: edge.evicted, acknowledged: edge.acknowledged },
    difference,
    state: addsUp ? compared : 'unequal'
  }
}
