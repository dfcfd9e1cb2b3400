// When each sensor was last heard of, and the type and unit said last. Collected in memory and written now and then in a
// transaction of its own, so that ingest neither waits for it nor fails with it.
//
// Not guaranteed: what a bridge has not written yet when it is killed is lost until the sensor is heard of again.
import { messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { Database } from '../database.ts'
import { cleanText } from './dead-letters.ts'
import type { RowSensor } from './rows.ts'

const FLUSH_EVERY_MS = 30_000
const MAX_PER_STATEMENT = 10_000
/** More are forgotten until they are heard of again. */
const MAX_KEPT = 500_000

type Sighting = { type: string | null; unit: string | null; seenMs: number }

export type Sightings = {
  /** Sensors of which readings were committed. */
  note(sensors: readonly RowSensor[]): void
  /** Writes what is left, if the database lets it. */
  close(): Promise<void>
}

export function createSightings(options: {
  database: Database
  now: () => number
  log: Log
  flushEveryMs?: number
}): Sightings {
  const { database, now, log } = options
  let kept = new Map<string, Sighting>()
  let timer: NodeJS.Timeout | null = null
  let flushing: Promise<void> = Promise.resolve()
  let closed = false

  async function flush(): Promise<void> {
    const sightings = [...kept].sort(([a], [b]) => (a < b ? -1 : 1))
    kept = new Map()
    try {
      for (let from = 0; from < sightings.length; from += MAX_PER_STATEMENT) {
        await write(sightings.slice(from, from + MAX_PER_STATEMENT))
      }
    } catch (error) {
      log.debug({ reason: messageOf(error), sensors: sightings.length }, 'when sensors were last seen was not noted')
    }
  }

  /** Rows that another bridge is writing are left to it. */
  async function write(sightings: readonly [string, Sighting][]): Promise<void> {
    await database.withClient((client) =>
      client.query({
        name: 'note_sightings',
        text: `
          WITH seen AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
              AS seen (sensor_id, sensor_type, unit, last_seen)
          ), locked AS (
            SELECT sensors.sensor_id
            FROM sensors
            JOIN seen ON seen.sensor_id = sensors.sensor_id
            ORDER BY sensors.sensor_id
            FOR UPDATE OF sensors SKIP LOCKED
          )
          UPDATE sensors
          SET
            last_seen = greatest(sensors.last_seen, seen.last_seen),
            sensor_type = coalesce(seen.sensor_type, sensors.sensor_type),
            unit = coalesce(seen.unit, sensors.unit)
          FROM seen
          JOIN locked ON locked.sensor_id = seen.sensor_id
          WHERE sensors.sensor_id = seen.sensor_id`,
        values: [
          sightings.map(([id]) => id),
          sightings.map(([, { type }]) => (type === null ? null : cleanText(type))),
          sightings.map(([, { unit }]) => (unit === null ? null : cleanText(unit))),
          sightings.map(([, { seenMs }]) => new Date(seenMs).toISOString())
        ]
      })
    )
  }

  function arm(): void {
    if (timer !== null || closed) return
    timer = setTimeout(() => {
      timer = null
      flushing = flushing.then(flush)
    }, options.flushEveryMs ?? FLUSH_EVERY_MS)
    timer.unref()
  }

  return {
    note(sensors) {
      const seenMs = now()
      if (kept.size > MAX_KEPT) kept.clear()
      for (const { id, type, unit, refusal } of sensors) {
        if (refusal !== null) continue
        const before = kept.get(id)
        if (before === undefined) kept.set(id, { type, unit, seenMs })
        else {
          before.seenMs = seenMs
          before.type = type ?? before.type
          before.unit = unit ?? before.unit
        }
      }
      if (kept.size > 0) arm()
    },
    async close() {
      closed = true
      if (timer !== null) clearTimeout(timer)
      timer = null
      await flushing
      if (kept.size > 0) await flush()
    }
  }
}
