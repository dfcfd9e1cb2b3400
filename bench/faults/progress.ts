// How far the cloud has come: the clock for faults behind the edge.
import { withConnection } from './bed.ts'
import type { Line } from './line.ts'
import { until } from './until.ts'

const MOVES_MS = 60_000

/** Batches in the ledger. */
export function batchesOf({ databaseUrl }: Pick<Line, 'databaseUrl'>): Promise<number> {
  return withConnection(databaseUrl, async (db) => {
    const { rows } = await db.query<{ batches: string }>('SELECT count(*) AS batches FROM ingest_batches')
    return Number(rows[0]?.batches ?? 0)
  })
}

/** Waits until the ledger has more than `before` batches; how long that took, ms. */
export async function untilMoving(line: Pick<Line, 'databaseUrl'>, before: number): Promise<number> {
  const startMs = performance.now()
  await withConnection(line.databaseUrl, (db) =>
    until('the ledger to grow', MOVES_MS, async () => {
      const { rows } = await db.query<{ grown: boolean }>('SELECT count(*) > $1 AS grown FROM ingest_batches', [before])
      return rows[0]?.grown === true
    })
  )
  return Math.round(performance.now() - startMs)
}

/** @throws Error when the moment does not come. */
export async function inTime<T>(what: string, work: Promise<T>, timeoutMs = MOVES_MS): Promise<T> {
  let result: { value: T } | null = null
  let failure: { error: unknown } | null = null
  work.then(
    (value) => (result = { value }),
    (error: unknown) => (failure = { error })
  )
  const settled = await until(what, timeoutMs, () => result ?? failure)
  if ('error' in settled) throw settled.error
  return settled.value
}
