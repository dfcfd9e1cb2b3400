// Which records of a batch end the database session: an error without a verdict, after which no savepoint is left. Each
// guess is a transaction of its own that is undone.
//
// Guarantee: nothing is stored, and only a record that ended the session alone, twice, while an ordinary one did not, is
// named.
import type { Log } from '../../shared/log.ts'
import { AppError, messageOf } from '../../shared/errors.ts'
import { pause } from '../../shared/retry.ts'
import type { Client, Database } from '../database.ts'
import { takeEvents } from '../maintenance/inbox.ts'
import { sqlstateOf } from '../sqlstate.ts'
import { incomingOf } from './prepare.ts'
import type { Prepared } from './prepare.ts'
import type { RowRefusal } from './rows.ts'
import { storeStaged } from './staging.ts'
import { probeReading } from './store.ts'
import { sessionEnded } from './suspicion.ts'

/** A server that fell is waited for so often, so long each time. */
const WAITS = 60
const WAIT_MS = 500

class Undo extends Error {}

/** Of a single batch: by place among its readings or events. Empty when nothing can be said. */
export async function isolate(options: {
  database: Database
  prepared: Prepared
  now: () => number
  log: Log
  signal: AbortSignal
}): Promise<ReadonlyMap<number, RowRefusal>> {
  const { database, prepared, log, signal } = options
  const condemned = new Map<number, RowRefusal>()
  const [batch] = prepared.batches
  if (batch === undefined) return condemned
  const events = incomingOf(batch)
  const places = events.length > 0 ? events.map((_, place) => place) : [...prepared.order]

  /** What ended the session; null when nothing did. @throws AppError `database_unreachable` */
  async function trial(work: (client: Client) => Promise<unknown>): Promise<{ error: unknown } | null> {
    for (let waits = 0; ; waits++) {
      try {
        await database.transaction(async (client) => {
          await work(client)
          throw new Undo()
        })
      } catch (error) {
        const unreachable = error instanceof AppError && error.code === 'database_unreachable'
        if (!unreachable) return sessionEnded(error) ? { error } : null
        if (waits === WAITS || signal.aborted) throw error
        await pause(WAIT_MS, signal)
      }
    }
  }

  async function store(client: Client, some: readonly number[]): Promise<unknown> {
    if (events.length === 0) return storeStaged(client, prepared.rows, Uint32Array.from(some))
    const wanted = new Set(some)
    return takeEvents(
      client,
      events.filter((_, place) => wanted.has(place)),
      false
    )
  }

  async function search(some: readonly number[]): Promise<void> {
    if (some.length === 0 || signal.aborted) return
    const failure = await trial((client) => store(client, some))
    if (failure === null) return
    const middle = some.length >> 1
    if (some.length > 1) {
      await search(some.slice(0, middle))
      return search(some.slice(middle))
    }
    const sane = await trial((client) => probeReading(client, options.now()))
    const again = await trial((client) => store(client, some))
    const [place] = some
    if (sane !== null || again === null || place === undefined) return
    const detail = `it ends the database session: ${messageOf(again.error)}`
    condemned.set(place, { reason: 'refused_by_database', detail, sqlstate: sqlstateOf(again.error) })
  }

  try {
    await search(places)
  } catch (error) {
    log.warn({ reason: messageOf(error) }, 'the search for the records that end the session was broken off')
  }
  return condemned
}
