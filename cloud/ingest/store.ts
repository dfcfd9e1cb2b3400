// The readings of a transaction into the table: straight, staged where keys are taken already, salvaged where PostgreSQL
// refuses.
//
// Afterwards each row of `order` is stored, a duplicate, or refused with a reason; or it throws and the transaction is to
// be rolled back.
import type { Client } from '../database.ts'
import { classify } from '../sqlstate.ts'
import { copyIn } from './copy.ts'
import type { RowRefusal, Rows } from './rows.ts'
import { condemns, salvage, underSavepoint } from './salvage.ts'
import { storeStaged } from './staging.ts'
import type { StagedResult } from './staging.ts'

const COPY = `
  SAVEPOINT readings;
  COPY sensor_readings (timestamp, sensor_id, value, value_text, quality, received_at) FROM STDIN (FORMAT binary)`

/** How many transactions of a gateway go through staging at once after one that had to. */
const STAGED_AFTER = 16

export type Stored = { duplicates: number[]; refused: Map<number, RowRefusal> }

export type ReadingStore = {
  store(client: Client, work: StoreWork): Promise<Stored>
}

export type StoreWork = {
  rows: Rows
  order: Uint32Array
  /** `order` for a COPY straight into the table. */
  copy: Buffer
  /** Whose readings they are. */
  gateways: ReadonlySet<string>
  stubborn: boolean
  /** Runs while the server works. */
  meanwhile: () => void
}

export function createReadingStore(options: { now: () => number }): ReadingStore {
  const stagedLeft = new Map<string, number>()

  /** Null when the COPY met a key that is taken, or a row that is refused: `error`. */
  async function straight(client: Client, work: StoreWork): Promise<{ error: unknown } | null> {
    try {
      await copyIn(client, COPY, work.copy, work.meanwhile)
      return null
    } catch (error) {
      if (!condemns(error, work.stubborn)) throw error
      await client.query('ROLLBACK TO SAVEPOINT readings; RELEASE SAVEPOINT readings')
      return { error }
    }
  }

  async function staged(client: Client, work: StoreWork): Promise<Stored> {
    let whole: StagedResult
    try {
      whole = await underSavepoint(client, () =>
        storeStaged(client, work.rows, work.order, { meanwhile: work.meanwhile })
      )
    } catch (error) {
      if (!condemns(error, work.stubborn)) throw error
      return saved(client, work, error)
    }
    return collect([whole])
  }

  async function saved(client: Client, work: StoreWork, error: unknown): Promise<Stored> {
    const { results, refused } = await salvage({
      client,
      items: [...work.order],
      error,
      stubborn: work.stubborn,
      store: (some) => storeStaged(client, work.rows, Uint32Array.from(some), { clear: true }),
      probe: () => probe(client, options.now())
    })
    const stored = collect(results)
    for (const { item, sqlstate, message } of refused) {
      stored.refused.set(item, { reason: 'refused_by_database', detail: message, sqlstate })
    }
    return stored
  }

  function note(gateways: ReadonlySet<string>, hadDuplicates: boolean): void {
    for (const gateway of gateways) {
      const left = hadDuplicates ? STAGED_AFTER : (stagedLeft.get(gateway) ?? 0) - 1
      if (left > 0) stagedLeft.set(gateway, left)
      else stagedLeft.delete(gateway)
    }
  }

  return {
    async store(client, work) {
      if (work.order.length === 0) return collect([])
      const toStaging = [...work.gateways].some((gateway) => stagedLeft.has(gateway))
      const failure = toStaging ? null : await straight(client, work)
      if (!toStaging && failure === null) return collect([])
      const stored =
        failure === null || classify(failure.error) === 'duplicate'
          ? await staged(client, work)
          : await saved(client, work, failure.error)
      note(
        work.gateways,
        stored.duplicates.length > 0 || [...stored.refused.values()].some(({ reason }) => reason === 'conflict')
      )
      return stored
    }
  }
}

function collect(results: readonly StagedResult[]): Stored {
  const stored: Stored = { duplicates: [], refused: new Map() }
  for (const { duplicates, conflicts } of results) {
    stored.duplicates.push(...duplicates)
    for (const { row, refusal } of conflicts) stored.refused.set(row, refusal)
  }
  return stored
}

/** A reading that nothing can be said against. */
async function probe(client: Client, nowMs: number): Promise<void> {
  const at = new Date(nowMs).toISOString()
  await client.query({
    name: 'probe_readings',
    text: `
      INSERT INTO sensor_readings (timestamp, sensor_id, value, value_text, quality, received_at)
      VALUES ($1, 'millrace/probe', 0, NULL, 192, $1)`,
    values: [at]
  })
}
