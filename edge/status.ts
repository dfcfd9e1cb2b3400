// What the edge says of itself: the status that goes to the cloud, and what its own page and metrics show beside.
//
// Health means that data moves: `failing` when messages can't be taken and kept, `degraded` when anything else is wrong.
import { statfs } from 'node:fs/promises'
import manifest from '../package.json' with { type: 'json' }
import type { ConnectionState } from '../shared/mqtt/connection.ts'
import type { DoorState, EdgeStatus, EpochSums } from '../shared/status.ts'
import type { EdgeBuffer } from './buffer/buffer.ts'
import type { StoreFigures } from './buffer/store.ts'
import type { IntakeFigures } from './intake.ts'
import { problemsOf } from './problems.ts'
import type { UplinkFigures } from './uplink/uplink.ts'
import type { Watch } from './watch.ts'

export type LocalStatus = EdgeStatus & {
  health: 'ok' | 'degraded' | 'failing'
  /** Why messages can't be taken and kept; null when they can. */
  notReady: string | null
  uptimeS: number
  /** The sums of promise 5 add up. */
  balanced: boolean
  rates: { receivedPerS: number; acknowledgedPerS: number }
  /** Until the buffer is full at the present rates, s; null: it doesn't fill. */
  toFullS: number | null
  /** Until nothing waits at the present rates, s; null: it doesn't drain. */
  toDrainS: number | null
  /** Since the last batch was freed, s; null: none since the start. */
  lastAckAgeS: number | null
  uplink: {
    state: 'up' | 'down'
    detail: string | null
    since: string
    held: string | null
    inFlight: number
    sentBatches: number
    sentBytes: number
    resends: number
    strayAnswers: number
    acknowledgedRecords: number
  }
  intake: IntakeFigures
  connections: { open: number; refused: number } | null
  buffer: {
    answering: boolean
    full: boolean
    checked: number
    damaged: number
    ignoredAcks: number
    /** Where a broken buffer file was put at the start; null when there was none. */
    setAside: string | null
  }
}

export type StatusParts = {
  gateway: string
  dataFolder: string
  buffer: Pick<EdgeBuffer, 'opened'>
  watch: Watch
  intake: { figures(): IntakeFigures }
  uplink: { figures(): UplinkFigures }
  doors: () => DoorState[]
  connections: () => { connections: number; refusedConnections: number } | null
  /** Wall clock ms of the start. */
  startedAtMs: number
  now: () => number
}

/** The file's reserve and the WAL: part of the cap that can't be filled with records. */
const RESERVE_SHARE = 0.1

/** A backlog that is gone within this time at the rate of acknowledgement is the line's normal course, s. */
const FLOWING_S = 5

export async function collectStatus(parts: StatusParts): Promise<LocalStatus> {
  const { watch, now } = parts
  const [figures, freeBytes] = await Promise.all([watch.look(), freeBytesOf(parts.dataFolder)])
  const nowMs = now()
  const uplink = parts.uplink.figures()
  const rates = watch.perSecond()
  const since = new Date(watch.uplinkSinceMs()).toISOString()
  const oldestS = figures.oldestPendingUs === null ? 0 : Math.max(0, nowMs - figures.oldestPendingUs / 1_000) / 1_000
  const facts: Omit<LocalStatus, 'problems' | 'health' | 'notReady'> = {
    gateway: parts.gateway,
    online: true,
    version: manifest.version,
    startedAt: new Date(parts.startedAtMs).toISOString(),
    clock: new Date(nowMs).toISOString(),
    epoch: figures.epoch,
    sums: figures.sums,
    backlog: { records: figures.pendingRecords, bytes: figures.pendingBytes, oldestS },
    disk: { usedBytes: figures.usedBytes, maxBytes: figures.maxBytes, freeBytes },
    doors: parts.doors(),
    uptimeS: Math.max(0, nowMs - parts.startedAtMs) / 1_000,
    balanced: isBalanced(figures.sums, figures.pendingRecords),
    rates: { receivedPerS: rates.received, acknowledgedPerS: rates.acknowledged },
    toFullS: toFullS(figures, freeBytes, rates),
    toDrainS: toDrainS(figures.pendingRecords, rates),
    lastAckAgeS: uplink.lastAckAtMs === null ? null : Math.max(0, nowMs - uplink.lastAckAtMs) / 1_000,
    uplink: {
      state: isUp(uplink.state) ? 'up' : 'down',
      detail: describe(uplink.state),
      since,
      held: uplink.held,
      inFlight: uplink.inFlight,
      sentBatches: uplink.sentBatches,
      sentBytes: uplink.sentBytes,
      resends: uplink.resends,
      strayAnswers: uplink.strayAnswers,
      acknowledgedRecords: uplink.acknowledgedRecords
    },
    intake: parts.intake.figures(),
    connections: connectionsOf(parts),
    buffer: {
      answering: watch.isAnswering(),
      full: figures.full,
      checked: figures.checked,
      damaged: figures.damaged,
      ignoredAcks: figures.ignoredAcks,
      setAside: parts.buffer.opened.setAside
    }
  }
  const { problems, notReady } = problemsOf(facts)
  return {
    ...facts,
    problems,
    notReady,
    health: notReady !== null ? 'failing' : problems.length > 0 ? 'degraded' : 'ok'
  }
}

export function isUp(state: ConnectionState): boolean {
  return state.phase === 'connected' && state.subscribed && state.refusedFilters.length === 0
}

/** received = filtered + duplicate + accepted; accepted = pending + evicted + acknowledged; and what is counted as pending waits. */
export function isBalanced(sums: readonly EpochSums[], pendingRecords: number): boolean {
  let pending = 0
  for (const of of sums) {
    if (of.received !== of.filtered + of.duplicate + of.accepted) return false
    if (of.accepted !== of.pending + of.evicted + of.acknowledged) return false
    if (of.acknowledged !== of.stored + of.cloudDuplicates + of.deadLettered) return false
    pending += of.pending
  }
  return pending === pendingRecords
}

type PerSecond = { received: number; acknowledged: number }

/** What waits can't be deleted; everything else in the file gives way to it. */
export function toFullS(figures: StoreFigures, freeBytes: number | null, rates: PerSecond): number | null {
  const recordsPerS = rates.received - rates.acknowledged
  if (recordsPerS <= 0 || figures.pendingRecords === 0 || isFlowing(figures.pendingRecords, rates)) return null
  const bytesPerRecord = figures.pendingBytes / figures.pendingRecords
  const reclaimableBytes = figures.usedBytes - figures.pendingBytes
  const onVolumeBytes = freeBytes === null ? Number.POSITIVE_INFINITY : freeBytes + reclaimableBytes
  const belowCapBytes = figures.maxBytes * (1 - RESERVE_SHARE) - figures.pendingBytes
  return Math.max(0, Math.min(onVolumeBytes, belowCapBytes)) / (recordsPerS * bytesPerRecord)
}

function isFlowing(pendingRecords: number, rates: PerSecond): boolean {
  return pendingRecords <= rates.acknowledged * FLOWING_S
}

export function toDrainS(pendingRecords: number, rates: PerSecond): number | null {
  if (pendingRecords === 0) return 0
  if (isFlowing(pendingRecords, rates)) return pendingRecords / rates.acknowledged
  const recordsPerS = rates.acknowledged - rates.received
  return recordsPerS <= 0 ? null : pendingRecords / recordsPerS
}

function connectionsOf(parts: StatusParts): LocalStatus['connections'] {
  const figures = parts.connections()
  return figures === null ? null : { open: figures.connections, refused: figures.refusedConnections }
}

function describe(state: ConnectionState): string | null {
  switch (state.phase) {
    case 'connected':
      if (state.refusedFilters.length > 0) return 'the broker refused the subscription to the bridge’s answers'
      return state.subscribed ? null : 'subscribing'
    case 'disconnected':
    case 'refused':
      return state.reason
    case 'connecting':
    case 'closed':
      return state.phase
  }
}

/** Free for this user on the volume of `folder`, bytes; null where the system doesn't say. */
async function freeBytesOf(folder: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  } catch {
    return null
  }
}
