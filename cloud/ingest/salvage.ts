// Saving the good from among the bad: what PostgreSQL refuses is narrowed down by halves to the very records, and a fault
// of the table is told from a fault of the data.
//
// Guarantees: after `salvage` every item is either stored or refused with PostgreSQL's code; it throws, with nothing
// decided, when the error is not about the data (transient, a missing partition) or is the table's (`TableFault`).
import { messageOf } from '../../shared/errors.ts'
import type { Client } from '../database.ts'
import { classify, sqlstateOf } from '../sqlstate.ts'
import { isPartitionMissing } from './partitions.ts'

/** How many items are tried singly, when a probe fails like they do, before the table is held to be at fault. */
const SINGLES = 64

/** No record can cause these: syntax and access rules (a revoked right, a missing table or column). */
const TABLE_FAULTS = '42'

/**
 * Passing by themselves as a rule, but a single batch can be what brings them about each time. Not 55P03: a lock is always
 * another's, and each look at it takes `lock_timeout`. What ends the session has no savepoint left: see isolate.ts.
 */
const PERHAPS_DATA = new Set(['40001', '40P01', '53000', '53200', '53400', '57014'])

/** The database refuses whatever the data: held, retried, never a dead letter. */
export class TableFault extends Error {
  readonly sqlstate: string

  constructor(error: unknown) {
    super(messageOf(error), { cause: error })
    this.name = 'TableFault'
    this.sqlstate = sqlstateOf(error) ?? 'XX000'
  }
}

export type Refused<Item> = { item: Item; sqlstate: string; message: string }

/** Whether an error condemns records. `stubborn`: others succeed while this batch has failed again and again. */
export function condemns(error: unknown, stubborn: boolean): boolean {
  const sqlstate = sqlstateOf(error)
  if (sqlstate === null || isPartitionMissing(error)) return false
  return classify(error) !== 'transient' || (stubborn && PERHAPS_DATA.has(sqlstate))
}

/** Runs `work` under a savepoint of its own: what it did is undone when it throws, and the transaction goes on. */
export async function underSavepoint<Result>(client: Client, work: () => Promise<Result>): Promise<Result> {
  await client.query('SAVEPOINT attempt')
  let result: Result
  try {
    result = await work()
  } catch (error) {
    await client.query('ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt')
    throw error
  }
  await client.query('RELEASE SAVEPOINT attempt')
  return result
}

/**
 * Stores as many of `items` as can be. `store` takes some of them and runs under a savepoint; `probe` stores a record
 * that nothing can be said against.
 * @throws TableFault; any error that condemns nothing, as it is
 */
export async function salvage<Item, Result>(options: {
  client: Client
  items: readonly Item[]
  /** What storing all at once failed with; absent: not tried yet. */
  error?: unknown
  stubborn: boolean
  store(items: readonly Item[]): Promise<Result>
  probe(): Promise<void>
}): Promise<{ results: Result[]; refused: Refused<Item>[] }> {
  const { client, items, stubborn } = options
  const results: Result[] = []
  const refused: Refused<Item>[] = []

  /** Null when stored, else what condemns the items. */
  async function attempt(some: readonly Item[]): Promise<{ error: unknown } | null> {
    try {
      results.push(await underSavepoint(client, () => options.store(some)))
      return null
    } catch (error) {
      if (!condemns(error, stubborn)) throw error
      if (sqlstateOf(error)?.startsWith(TABLE_FAULTS)) throw new TableFault(error)
      return { error }
    }
  }

  async function split(some: readonly Item[], error: unknown): Promise<void> {
    const [only] = some
    if (some.length === 1 && only !== undefined) {
      refused.push({ item: only, sqlstate: sqlstateOf(error) ?? 'XX000', message: messageOf(error) })
      return
    }
    const middle = some.length >> 1
    for (const half of [some.slice(0, middle), some.slice(middle)]) {
      const failure = await attempt(half)
      if (failure !== null) await split(half, failure.error)
    }
  }

  const failure = options.error === undefined ? await attempt(items) : { error: options.error }
  if (failure === null) return { results, refused }
  if (!condemns(failure.error, stubborn)) throw failure.error
  const sqlstate = sqlstateOf(failure.error)
  if (sqlstate?.startsWith(TABLE_FAULTS) || ((await probeFailure(options)) === sqlstate && (await allFail(sqlstate)))) {
    throw new TableFault(failure.error)
  }
  await split(items, failure.error)
  return { results, refused }

  /** Whether each of up to `SINGLES` items, from all over, fails by itself with `sqlstate`. Stores nothing. */
  async function allFail(sqlstate: string | null): Promise<boolean> {
    const step = Math.max(1, Math.floor(items.length / SINGLES))
    for (let index = 0, tried = 0; index < items.length && tried < SINGLES; index += step, tried++) {
      const error = await failureOf(client, () => options.store(items.slice(index, index + 1)))
      if (error === null || sqlstateOf(error) !== sqlstate) return false
    }
    return true
  }
}

async function probeFailure(options: { client: Client; probe(): Promise<void> }): Promise<string | null> {
  return sqlstateOf(await failureOf(options.client, options.probe))
}

/** What `work` fails with, or null; what it did is undone in either case. @throws what condemns nothing */
async function failureOf(client: Client, work: () => Promise<unknown>): Promise<unknown> {
  await client.query('SAVEPOINT trial')
  let failure: unknown = null
  try {
    await work()
  } catch (error) {
    if (!condemns(error, true)) throw error
    failure = error
  }
  await client.query('ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial')
  return failure
}
