// The partitions that a batch touches exist before its COPY, on the engines that have range partitions; so does the one for
// now, where the probe of a failed COPY stands (salvage.ts). It can't be made then: the transaction's own lock on the table
// would be in the way. The weeks known to exist are remembered; one that was dropped meanwhile shows as a missing partition, upon which all is asked for again.
import type { Database } from '../database.ts'
import type { Engine } from '../engine.ts'
import { sqlstateOf } from '../sqlstate.ts'
import { instantText } from './instant.ts'
import type { Rows } from './rows.ts'

const WEEK_US = 7 * 86_400_000_000
/** The function refuses more than 400 days at a time. */
const MAX_WEEKS = 52

export type Partitions = {
  /** Makes what is missing for now and for the rows of `order`, which stand in order of time, in a transaction of its own. */
  ensure(rows: Rows, order: Uint32Array): Promise<void>
  forget(): void
}

export function createPartitions(options: { database: Database; engine: Engine; now: () => number }): Partitions {
  const { database, engine } = options
  const known = new Set<number>()
  if (engine.kind === 'timescale') return { ensure: async () => undefined, forget: () => undefined }
  return {
    async ensure({ timestampUs }, order) {
      if (order.length === 0) return
      const missing = new Set<number>()
      const thisWeek = Math.floor((options.now() * 1_000) / WEEK_US)
      if (!known.has(thisWeek)) missing.add(thisWeek)
      let index = 0
      while (index < order.length) {
        const week = Math.floor((timestampUs[order[index] ?? 0] ?? 0) / WEEK_US)
        if (!known.has(week)) missing.add(week)
        index = firstAfter(timestampUs, order, (week + 1) * WEEK_US, index)
      }
      if (missing.size === 0) return
      await database.transaction(async (client) => {
        for (const [first, end] of runsOf([...missing].sort((a, b) => a - b))) {
          await client.query({
            name: 'ensure_partitions',
            text: 'SELECT millrace_ensure_partitions($1, $2)',
            values: [instantText(first * WEEK_US), instantText((end + 1) * WEEK_US - 1)]
          })
        }
      })
      for (const week of missing) known.add(week)
    },
    forget: () => known.clear()
  }
}

/** The first place at or after `from` whose instant is not before `untilUs`. */
function firstAfter(timestampUs: Float64Array, order: Uint32Array, untilUs: number, from: number): number {
  let low = from
  let high = order.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((timestampUs[order[middle] ?? 0] ?? 0) < untilUs) low = middle + 1
    else high = middle
  }
  return low
}

/** Consecutive weeks joined: first and last of each run. */
function runsOf(weeks: readonly number[]): [number, number][] {
  const runs: [number, number][] = []
  for (const week of weeks) {
    const run = runs.at(-1)
    if (run !== undefined && week === run[1] + 1 && week - run[0] < MAX_WEEKS) run[1] = week
    else runs.push([week, week])
  }
  return runs
}

/** PostgreSQL gives a row without partition the code of a check constraint, but no constraint's name. */
export function isPartitionMissing(error: unknown): boolean {
  return sqlstateOf(error) === '23514' && !namesConstraint(error)
}

function namesConstraint(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'constraint' in error && typeof error.constraint === 'string'
}
