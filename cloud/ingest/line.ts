// The queue of one lane's batches before the database, and what happens when a transaction fails.
//
// Guarantees: a batch leaves the queue only with an outcome that is committed, or for a newer copy of itself; nothing is
// dropped, however long the database is away or refuses, and whatever this program gets wrong. A batch that fails goes
// behind the others and is tried alone from then on, so that it doesn't keep them from the table; while all fail, tries
// are apart by a wait with full jitter.
//
//   waiting → being prepared → in a transaction → done
//           → (fails) → waiting, not before a time of its own
//
// A batch that fails again and again while others succeed is suspected (suspicion.ts).
import { setImmediate as turnOfEventLoop } from 'node:timers/promises'
import { AppError, messageOf } from '../../shared/errors.ts'
import { hexOf } from '../../shared/batch/envelope.ts'
import type { Log } from '../../shared/log.ts'
import { createBackoff, pause } from '../../shared/retry.ts'
import type { Database } from '../database.ts'
import { bytesOf, recordsOf } from './arrival.ts'
import type { Arrived, Outcome } from './arrival.ts'
import { holdOf } from './hold.ts'
import type { Hold } from './hold.ts'
import { isolate } from './isolate.ts'
import { isPartitionMissing } from './partitions.ts'
import type { Partitions } from './partitions.ts'
import { assemble, giveUp, openArrived } from './prepare.ts'
import type { Opened, Prepared } from './prepare.ts'
import type { Registry } from './registry.ts'
import { TableFault } from './salvage.ts'
import type { ReadingStore } from './store.ts'
import { isFaultOfProgram, isStubborn, noSuspicion, sessionEnded, suspect } from './suspicion.ts'
import type { Suspicion } from './suspicion.ts'
import { transact } from './transact.ts'
import type { Transaction } from './transact.ts'

/**
 * What a transaction takes at most, unless a single batch has more. A COMMIT and its round trips cost as much as some
 * 3,000 rows.
 */
const MAX_RECORDS = 20_000
const MAX_BATCHES = 32
/** Of contents uncompressed. */
const MAX_CONTENT_BYTES = 8 * 2 ** 20

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
  /** On the monotonic clock. */
  notBeforeMs: number
  suspicion: Suspicion
  /** The COMMIT of an earlier try may have been done. */
  uncertain: boolean
  /** What this program can't do with it; null when that isn't why it waits. */
  hold: Hold | null
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
  /** Monotonic, so that a step of the wall clock doesn't lengthen a wait. */
  clockMs?: () => number
  log: Log
  /** After the COMMIT and the answers. */
  onCommitted(transaction: Transaction, prepared: Prepared): void
}): Line {
  const { database, log, now, clockMs = () => performance.now() } = options
  const closing = new AbortController()
  const backoff = createBackoff(options.retry)
  let queue: Item[] = []
  /** Batches that have failed and wait, by their digest. */
  const failed = new Map<string, Item>()
  let ahead: Promise<Group | null> | null = null
  let inWork = 0
  let successes = 0
  let hold: Hold | null = null
  let running: Promise<void> | null = null
  let wake: (() => void) | null = null

  /** Takes the next batches that may be tried from the queue; none when there are none. */
  function nextItems(): Item[] {
    const nowMs = clockMs()
    const items: Item[] = []
    let records = 0
    let contentBytes = 0
    for (const item of queue) {
      if (item.notBeforeMs > nowMs) continue
      const alone = item.suspicion.tries > 0
      records += recordsOf(item.arrived)
      contentBytes += bytesOf(item.arrived)
      if (items.length > 0 && (alone || records > MAX_RECORDS || contentBytes > MAX_CONTENT_BYTES)) break
      items.push(item)
      if (alone || items.length === MAX_BATCHES) break
    }
    if (items.length === 0) return items
    const taken = new Set(items)
    queue = queue.filter((item) => !taken.has(item))
    for (const { arrived } of items) failed.delete(identityOf(arrived))
    inWork += items.length
    return items
  }

  async function nextGroup(): Promise<Group | null> {
    for (let items = nextItems(); items.length > 0; items = nextItems()) {
      const group = await prepareGroup(items)
      if (group !== null) return group
    }
    return null
  }

  /** One batch a turn of the event loop, so that a COPY under way isn't kept waiting for its bytes. */
  async function prepareGroup(items: readonly Item[]): Promise<Group | null> {
    const able: Item[] = []
    const opened: Opened[] = []
    for (const item of items) {
      try {
        opened.push(open(item))
        able.push(item)
      } catch (error) {
        setAside([item], error)
      }
      await turnOfEventLoop()
    }
    if (able.length === 0) return null
    try {
      return { items: able, prepared: assemble(opened, now(), options.retentionDays) }
    } catch (error) {
      setAside(able, error)
      return null
    }
  }

  function open({ arrived, suspicion }: Item): Opened {
    if (suspicion.verdict !== null) return giveUp(arrived, suspicion.verdict)
    const opened = openArrived(arrived)
    if (opened.kind === 'batch') opened.batch.condemned = suspicion.condemned
    return opened
  }

  function prepareAhead(): void {
    if (ahead === null && hold === null && !closing.signal.aborted) ahead = nextGroup()
  }

  async function commit({ items, prepared }: Group): Promise<Transaction> {
    await options.partitions.ensure(prepared.rows, prepared.order)
    return database.transaction((client) =>
      transact(client, {
        prepared,
        registry: options.registry,
        store: options.store,
        stubborn: items.some(({ suspicion }) => isStubborn(suspicion)),
        uncertain: items.some((item) => item.uncertain),
        nowMs: now(),
        meanwhile: prepareAhead
      })
    )
  }

  async function attempt(group: Group): Promise<void> {
    let transaction: Transaction
    try {
      transaction = await commit(group)
    } catch (error) {
      return fail(group, error)
    }
    successes += 1
    inWork -= group.items.length
    if (hold !== null) log.info({ heldSince: hold.since }, 'going on')
    hold = null
    backoff.reset()
    for (const [place, item] of group.items.entries()) {
      const outcome = transaction.outcomes.get(place)
      if (outcome !== undefined) {
        item.resolve(outcome)
        continue
      }
      // It is in the ledger: the next try will find it there.
      inWork += 1
      setAside([item], new Error('the batch was left without outcome'))
    }
    try {
      options.onCommitted(transaction, group.prepared)
    } catch (error) {
      log.error({ err: error }, 'what was committed could not be counted')
    }
  }

  async function fail({ items, prepared }: Group, error: unknown): Promise<void> {
    if (isFaultOfProgram(error)) return setAside(items, error)
    const unreachable = error instanceof AppError && error.code === 'database_unreachable'
    if (isPartitionMissing(error)) options.partitions.forget()
    const waitMs = backoff.nextMs()
    inWork -= items.length
    if (unreachable) {
      queue = [...items, ...queue]
    } else {
      for (const item of items) item.uncertain ||= sessionEnded(error)
      putBehind(items, error)
    }
    report(error, items.length, waitMs)
    await pause(waitMs, closing.signal)
    const [only] = items
    if (only === undefined || items.length > 1 || !isStubborn(only.suspicion) || !sessionEnded(error)) return
    only.suspicion.condemned = await isolate({ database, prepared, now, log, signal: closing.signal })
  }

  /** Batches that this program stumbles over: kept, never answered, in nobody's way. */
  function setAside(items: readonly Item[], error: unknown): void {
    inWork -= items.length
    const [only] = items
    if (only !== undefined && items.length === 1) {
      if (only.hold === null)
        log.error({ err: error, ...factsOf(only.arrived) }, "a batch can't be handled, holding it")
      const since = new Date(now()).toISOString()
      only.hold ??= { sqlstate: null, message: messageOf(error), since, hint: FAULT_HINT }
    } else {
      log.error({ err: error, batches: items.length }, "batches can't be handled, trying each alone")
    }
    putBehind(items, error)
  }

  function putBehind(items: readonly Item[], error: unknown): void {
    for (const item of items) {
      suspect(item.suspicion, error, successes)
      const waitMs = options.retry.baseMs * 2 ** Math.min(item.suspicion.tries - 1, 20)
      item.notBeforeMs = clockMs() + Math.min(options.retry.capMs, waitMs)
      failed.set(identityOf(item.arrived), item)
    }
    queue = [...queue, ...items]
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
      try {
        await step()
      } catch (error) {
        // Foreseen nowhere. What was in work keeps its place at the broker, unacknowledged, and comes again.
        log.error({ err: error }, 'a fault of the bridge, going on')
        await pause(options.retry.capMs, closing.signal)
      }
    }
  }

  async function step(): Promise<void> {
    const prepared = ahead
    ahead = null
    const group = (await prepared) ?? (await nextGroup())
    if (group !== null) await attempt(group)
    else if (queue.length > 0) await pause(untilReadyMs(), closing.signal)
    else await idle()
  }

  function untilReadyMs(): number {
    return Math.max(1, Math.min(...queue.map((item) => item.notBeforeMs)) - clockMs())
  }

  function idle(): Promise<void> {
    if (closing.signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      wake = resolve
    })
  }

  return {
    push(arrived) {
      if (closing.signal.aborted) return Promise.reject(new AppError('closed', 'the writer is closed'))
      return new Promise((resolve, reject) => {
        const former = failed.get(identityOf(arrived))
        if (former === undefined) queue.push(itemOf(arrived, resolve, reject))
        else {
          // Sent again because it waits for so long: one copy is enough to wait, and the edge listens for the newest.
          former.resolve(SUPERSEDED)
          former.resolve = resolve
          former.reject = reject
        }
        running ??= run()
        wake?.()
        wake = null
      })
    },
    waiting: () => queue.length + inWork,
    hold: () => hold ?? queue.find((item) => item.hold !== null)?.hold ?? null,
    async close() {
      closing.abort()
      wake?.()
      await running
      const left = [...((await ahead)?.items ?? []), ...queue]
      queue = []
      for (const item of left) item.reject(new AppError('closed', 'the writer was closed before the batch was stored'))
    }
  }
}

const SUPERSEDED: Outcome = { result: 'superseded', reason: null, stored: 0, duplicates: 0, deadLetters: 0 }

const FAULT_HINT =
  'this is a fault of the bridge: report it with its log and update; the batch is kept and tried again, others go on'

function itemOf(arrived: Arrived, resolve: Item['resolve'], reject: Item['reject']): Item {
  return { arrived, resolve, reject, notBeforeMs: 0, suspicion: noSuspicion(), uncertain: false, hold: null }
}

/** The same for two copies of one batch. */
function identityOf(arrived: Arrived): string {
  if (arrived.kind === 'unreadable') return `${arrived.gateway}/${arrived.detail}/${arrived.wire.length}`
  return hexOf(arrived.envelope.digest)
}

/** What a log says of a batch. */
function factsOf(arrived: Arrived): { gateway: string; batch: number | null; digest: string | null } {
  if (arrived.kind === 'unreadable') return { gateway: arrived.gateway, batch: null, digest: null }
  const { header, digest } = arrived.envelope
  return { gateway: header.gateway, batch: header.batch, digest: hexOf(digest) }
}
