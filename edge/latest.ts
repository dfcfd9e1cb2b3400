// The latest value of each sensor, for pages that show "now" while a backlog drains. Best effort; the buffer is the truth.
import type { Sensor, Value } from '../shared/reading.ts'

export type LatestValue = {
  timestampUs: number
  value: Value
  quality: number
  type: string | null
  unit: string | null
}

export type LatestValues = {
  /** The newest by the reading's time is kept. */
  note(sensor: Sensor, timestampUs: number, value: Value, quality: number): void
  /** What changed since the last call, at most `limit` sensors; the rest come with the next call. */
  takeChanged(limit: number): [string, LatestValue][]
  all(): [string, LatestValue][]
}

/** Beyond this many sensors the first seen are forgotten. */
const MAX_SENSORS = 20_000

export function createLatestValues(): LatestValues {
  const values = new Map<string, LatestValue & { changed: boolean }>()
  return {
    note(sensor, timestampUs, value, quality) {
      const known = values.get(sensor.id)
      if (known === undefined) {
        if (values.size >= MAX_SENSORS) {
          const oldest = values.keys().next()
          if (oldest.done !== true) values.delete(oldest.value)
        }
        values.set(sensor.id, { timestampUs, value, quality, type: sensor.type, unit: sensor.unit, changed: true })
      } else {
        if (timestampUs < known.timestampUs) return
        known.timestampUs = timestampUs
        known.value = value
        known.quality = quality
        known.type = sensor.type ?? known.type
        known.unit = sensor.unit ?? known.unit
        known.changed = true
      }
    },
    takeChanged(limit) {
      const taken: [string, LatestValue][] = []
      for (const [id, value] of values) {
        if (taken.length >= limit) break
        if (!value.changed) continue
        value.changed = false
        taken.push([id, plain(value)])
      }
      return taken
    },
    all: () => [...values].map(([id, value]) => [id, plain(value)])
  }
}

function plain({ changed: _changed, ...value }: LatestValue & { changed: boolean }): LatestValue {
  return value
}
