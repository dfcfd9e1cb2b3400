// Batches into the database, each exactly once. One line a lane, so that maintenance never waits behind readings; each
// has one transaction under way at most, and the next one prepared meanwhile.
//
// Guarantee: an outcome is given only for what is committed. Not guaranteed: the order in which batches are stored.
import type { Log } from '../../shared/log.ts'
import type { Database } from '../database.ts'
import type { Engine } from '../engine.ts'
import { laneOf } from './arrival.ts'
import type { Arrived, Outcome } from './arrival.ts'
import type { Hold } from './hold.ts'
import { createLine } from './line.ts'
import type { Line, Retry } from './line.ts'
import { createPartitions } from './partitions.ts'
import type { Prepared } from './prepare.ts'
import { createRegistry } from './registry.ts'
import { createSightings } from './sightings.ts'
import { createReadingStore } from './store.ts'
import type { Transaction } from './transact.ts'

const RETRY: Retry = { baseMs: 200, capMs: 15_000 }

export type WriterState = {
  /** What keeps a lane from going on; null when all is well. The readings' comes first. */
  held: Hold | null
  /** Batches without outcome. */
  waiting: number
  /** ISO 8601; null before the first COMMIT of this process. */
  lastCommitAt: string | null
  /** Since the start of the process: transactions; batches answered without storing; records. */
  transactions: number
  replays: number
  forks: number
  stored: number
  duplicates: number
  deadLettered: number
  evicted: number
}

export type Writer = {
  /**
   * Resolves when all are committed or refused, in the order given, or superseded by a newer copy; batches of several
   * calls may share a transaction.
   * Waits as long as the database is away or takes nothing.
   * @throws AppError `closed`
   */
  write(batches: readonly Arrived[]): Promise<Outcome[]>
  state(): WriterState
  /** Ends after the transactions under way. */
  close(): Promise<void>
}

export function createWriter(options: {
  database: Database
  engine: Engine
  /** Readings older than this are dead letters; 0: none is. */
  retentionDays: number
  /** Milliseconds since 1970. */
  now: () => number
  log: Log
  retry?: Retry
  /** How long a sensor's owner is believed, ms. */
  ownerTtlMs?: number
  /** How long at least between two writings of when sensors were last seen, ms. */
  sightingsEveryMs?: number
}): Writer {
  const { database, now, log } = options
  const totals = { transactions: 0, replays: 0, forks: 0, stored: 0, duplicates: 0, deadLettered: 0, evicted: 0 }
  let lastCommitAt: string | null = null
  const partitions = createPartitions(options)
  const registry = createRegistry({ now, ...(options.ownerTtlMs === undefined ? {} : { ttlMs: options.ownerTtlMs }) })

  const sightings = createSightings({
    database,
    now,
    log,
    ...(options.sightingsEveryMs === undefined ? {} : { flushEveryMs: options.sightingsEveryMs })
  })

  function onCommitted({ seen, total, replays, forks }: Transaction, { rows }: Prepared): void {
    registry.learn(seen)
    if (total.stored > 0) sightings.note(rows.sensors)
    lastCommitAt = new Date(now()).toISOString()
    totals.transactions += 1
    totals.replays += replays
    totals.forks += forks
    totals.stored += total.stored
    totals.duplicates += total.duplicates
    totals.deadLettered += total.deadLettered
    totals.evicted += total.evicted
  }

  function open(lane: 'readings' | 'maintenance'): Line {
    return createLine({
      database,
      partitions,
      registry,
      store: createReadingStore({ now }),
      retentionDays: options.retentionDays,
      retry: options.retry ?? RETRY,
      now,
      log: log.child({ lane }),
      onCommitted
    })
  }

  const lines = { readings: open('readings'), maintenance: open('maintenance') }

  return {
    write: (batches) => Promise.all(batches.map((arrived) => lines[laneOf(arrived)].push(arrived))),
    state: () => ({
      held: lines.readings.hold() ?? lines.maintenance.hold(),
      waiting: lines.readings.waiting() + lines.maintenance.waiting(),
      lastCommitAt,
      ...totals
    }),
    async close() {
      const reachable = lines.readings.hold() === null
      await Promise.all([lines.readings.close(), lines.maintenance.close()])
      if (reachable) await sightings.close()
    }
  }
}
