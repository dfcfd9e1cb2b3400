// The readings of a transaction into the table, by the cheapest way that is open:
//
//   straight   COPY of all rows: no key of theirs is taken
//   sifted     keys that are taken are looked up, the other rows copied; at once for a gateway that has lately sent some
//   staged     INSERT … ON CONFLICT DO NOTHING, when another session took a key between look and COPY
//   salvaged   by halves down to the rows that PostgreSQL refuses
//
// Each failure goes back to a savepoint and on to a later way. Afterwards each row of `order` is stored, a duplicate, or
// refused with a reason; or it throws and the transaction is to be rolled back.
import type { Client } from '../database.ts'
import { classify } from '../sqlstate.ts'
import { copyIn, encodeRows } from './copy.ts'
import type { RowRefusal, Rows } from './rows.ts'
import { condemns, salvage, underSavepoint } from './salvage.ts'
import { sift } from './sift.ts'
import { storeStaged } from './staging.ts'
import type { StagedResult } from './staging.ts'

const COPY = `
  SAVEPOINT readings;
  COPY sensor_readings (timestamp, sensor_id, value, value_text, quality, received_at) FROM STDIN (FORMAT binary)`

/** How many transactions of a gateway are sifted at once after one that had to be. */
const SIFTED_AFTER = 16

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
  const siftedLeft = new Map<string, number>()

  /** Null when all is in; `error`: the COPY met a key that is taken, or a row that is refused. */
  async function copy(client: Client, work: StoreWork, bytes: Uint8Array): Promise<{ error: unknown } | null> {
    try {
      await copyIn(client, COPY, bytes, work.meanwhile)
      return null
    } catch (error) {
      if (!condemns(error, work.stubborn)) throw error
      await client.query('ROLLBACK TO SAVEPOINT readings; RELEASE SAVEPOINT readings')
      return { error }
    }
  }

  async function sifted(client: Client, work: StoreWork): Promise<Stored | { error: unknown }> {
    const { free, ...found } = await sift(client, work.rows, work.order)
    if (free.length === 0) return collect([found])
    const bytes = free.length === work.order.length ? work.copy : encodeRows(work.rows, free, { ordinals: false })
    return (await copy(client, work, bytes)) ?? collect([found])
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
      probe: () => probeReading(client, options.now())
    })
    const stored = collect(results)
    for (const { item, sqlstate, message } of refused) {
      stored.refused.set(item, { reason: 'refused_by_database', detail: message, sqlstate })
    }
    return stored
  }

  function note(gateways: ReadonlySet<string>, hadDuplicates: boolean): void {
    for (const gateway of gateways) {
      const left = hadDuplicates ? SIFTED_AFTER : (siftedLeft.get(gateway) ?? 0) - 1
      if (left > 0) siftedLeft.set(gateway, left)
      else siftedLeft.delete(gateway)
    }
  }

  return {
    async store(client, work) {
      if (work.order.length === 0) return collect([])
      const atOnce = [...work.gateways].some((gateway) => siftedLeft.has(gateway))
      let failure = atOnce ? null : await copy(client, work, work.copy)
      if (!atOnce && failure === null) return collect([])
      let stored: Stored | null = null
      if (failure === null || classify(failure.error) === 'duplicate') {
        const result = await sifted(client, work)
        if ('error' in result) failure = result
        else stored = result
      }
      stored ??=
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
export async function probeReading(client: Client, nowMs: number): Promise<void> {
  const at = new Date(nowMs).toISOString()
  await client.query({
    name: 'probe_readings',
    text: `
      INSERT INTO sensor_readings (timestamp, sensor_id, value, value_text, quality, received_at)
      VALUES ($1, 'millrace/probe', 0, NULL, 192, $1)`,
    values: [at]
  })
}
