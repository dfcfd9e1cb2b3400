// The queue of one lane's batches before the database, and what happens when a transaction fails.
//
// Guarantees: a batch leaves the queue only with an outcome that is committed; nothing is dropped, however long the
// database is away or refuses. A batch that fails goes behind the others and is tried alone from then on, so that it
// doesn't keep them from the table; while all fail, tries are apart by a wait with full jitter.
//
//   waiting → in a transaction → done
//                              → waiting, not before a time of its own (its transaction failed)
import { AppError, messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import { createBackoff, pause } from '../../shared/retry.ts'
import type { Database } from '../database.ts'
import { sqlstateOf } from '../sqlstate.ts'
import { recordsOf } from './arrival.ts'
import type { Arrived, Outcome } from './arrival.ts'
import { holdOf } from './hold.ts'
import type { Hold } from './hold.ts'
import { isPartitionMissing } from './partitions.ts'
import type { Partitions } from './partitions.ts'
import { prepare } from './prepare.ts'
import type { Prepared } from './prepare.ts'
import type { Registry } from './registry.ts'
import { TableFault } from './salvage.ts'
import type { ReadingStore } from './store.ts'
import { transact } from './transact.ts'
import type { Transaction } from './transact.ts'

/** What a transaction takes at most, unless a single batch has more. */
const MAX_RECORDS = 10_000
const MAX_BATCHES = 32

/** Failures of a batch, while others succeed, after which errors that pass as a rule are held to be its own. */
const STUBBORN_TRIES = 6

export type Retry = { baseMs: number; capMs: number }

export type Line = {
  push(arrived: Arrived): Promise<Outcome>
  /** Batches without outcome. */
  waiting(): number
  hold(): Hold | null
  /** Ends after the transaction under way; batches without outcome are rejected with AppError `closed`. */
  close(): Promise<void>
}

type Item = {
  arrived: Arrived
  resolve(outcome: Outcome): void
  reject(error: Error): void
  tries: number
  notBeforeMs: number
  /** Successes of the line at the first failure. */
  successesBefore: number
  uncertain: boolean
}

type Group = { items: Item[]; prepared: Prepared }

export function createLine(options: {
  database: Database
  partitions: Partitions
  registry: Registry
  store: ReadingStore
  retentionDays: number
  retry: Retry
  now: () => number
  log: Log
  onCommitted(transaction: Transaction): void
}): Line {
  const { database, log, now } = options
  const closing = new AbortController()
  const backoff = createBackoff(options.retry)
  let queue: Item[] = []
  let ahead: Group | null = null
  let inWork = 0
  let successes = 0
  let hold: Hold | null = null
  let running: Promise<void> | null = null
  let wake: (() => void) | null = null

  /** Takes the next batches that may be tried from the queue; null when there are none. */
  function nextItems(): Item[] {
    const nowMs = now()
    const items: Item[] = []
    let records = 0
    for (const item of queue) {
      if (item.notBeforeMs > nowMs) continue
      const alone = item.tries > 0
      const count = recordsOf(item.arrived)
      if (items.length > 0 && (alone || records + count > MAX_RECORDS)) break
      items.push(item)
      records += count
      if (alone || items.length === MAX_BATCHES || records >= MAX_RECORDS) break
    }
    if (items.length === 0) return items
    const taken = new Set(items)
    queue = queue.filter((item) => !taken.has(item))
    inWork += items.length
    return items
  }

  function nextGroup(): Group | null {
    const items = nextItems()
    if (items.length === 0) return null
    return {
      items,
      prepared: prepare(
        items.map((item) => item.arrived),
        now(),
        options.retentionDays
      )
    }
  }

  function prepareAhead(): void {
    if (ahead === null && hold === null && !closing.signal.aborted) ahead = nextGroup()
  }

  async function commit({ items, prepared }: Group): Promise<Transaction> {
    await options.partitions.ensure(prepared.rows, prepared.order)
    const transaction = await database.transaction((client) =>
      transact(client, {
        prepared,
        registry: options.registry,
        store: options.store,
        stubborn: items.some((item) => item.tries >= STUBBORN_TRIES && successes > item.successesBefore),
        uncertain: items.some((item) => item.uncertain),
        nowMs: now(),
        meanwhile: prepareAhead
      })
    )
    options.registry.learn(transaction.seen)
    return transaction
  }

  async function attempt(group: Group): Promise<void> {
    let transaction: Transaction
    try {
      transaction = await commit(group)
    } catch (error) {
      return fail(group.items, error)
    }
    successes += 1
    inWork -= group.items.length
    if (hold !== null) log.info({ heldSince: hold.since }, 'going on')
    hold = null
    backoff.reset()
    options.onCommitted(transaction)
    for (const [place, item] of group.items.entries()) {
      const outcome = transaction.outcomes.get(place)
      if (outcome === undefined) item.reject(new Error('the batch was left without outcome'))
      else item.resolve(outcome)
    }
  }

  async function fail(items: readonly Item[], error: unknown): Promise<void> {
    const unreachable = error instanceof AppError && error.code === 'database_unreachable'
    if (isPartitionMissing(error)) options.partitions.forget()
    const waitMs = backoff.nextMs()
    const nowMs = now()
    inWork -= items.length
    for (const item of items) {
      if (unreachable) continue
      if (item.tries === 0) item.successesBefore = successes
      item.tries += 1
      item.uncertain ||= commitUnknown(error)
      item.notBeforeMs = nowMs + Math.min(options.retry.capMs, options.retry.baseMs * 2 ** Math.min(item.tries - 1, 20))
    }
    queue = unreachable ? [...items, ...queue] : [...queue, ...items]
    report(error, items.length, waitMs)
    await pause(waitMs, closing.signal)
  }

  /** A fault of the table is an alarm at once; what passes as a rule, when it came twice in a row. */
  function report(error: unknown, batches: number, retryMs: number): void {
    const next = holdOf(error, now())
    const same = hold !== null && hold.sqlstate === next.sqlstate
    if (error instanceof TableFault && !same) {
      log.error(
        { err: error, sqlstate: next.sqlstate, batches, hint: next.hint },
        'the database takes no records, holding'
      )
    } else {
      log.warn(
        { reason: messageOf(error), sqlstate: next.sqlstate, batches, retryMs },
        'transaction failed, trying again'
      )
    }
    hold = same && hold !== null ? { ...next, since: hold.since } : next
  }

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      const group = ahead ?? nextGroup()
      ahead = null
      if (group !== null) await attempt(group)
      else if (queue.length > 0) await pause(untilReadyMs(), closing.signal)
      else await idle()
    }
  }

  function untilReadyMs(): number {
    return Math.max(1, Math.min(...queue.map((item) => item.notBeforeMs)) - now())
  }

  function idle(): Promise<void> {
    return new Promise((resolve) => {
      wake = resolve
    })
  }

  return {
    push(arrived) {
      if (closing.signal.aborted) return Promise.reject(new AppError('closed', 'the writer is closed'))
      return new Promise((resolve, reject) => {
        queue.push({ arrived, resolve, reject, tries: 0, notBeforeMs: 0, successesBefore: 0, uncertain: false })
        running ??= run()
        wake?.()
        wake = null
      })
    },
    waiting: () => queue.length + inWork,
    hold: () => hold,
    async close() {
      closing.abort()
      wake?.()
      await running
      const left = [...queue, ...(ahead?.items ?? [])]
      queue = []
      for (const item of left) item.reject(new AppError('closed', 'the writer was closed before the batch was stored'))
    }
  }
}

/** Whether the session ended, so that nothing is known of a COMMIT under way. */
function commitUnknown(error: unknown): boolean {
  const sqlstate = sqlstateOf(error)
  return sqlstate === null || sqlstate.startsWith('08') || sqlstate.startsWith('57P')
}
