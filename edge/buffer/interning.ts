// Sensors cross to the buffer's thread once: afterwards a group names them by number. Cloning 256 sensor ids for each group would
// cost more than storing their readings.
import type { ReadingColumns } from '../../shared/batch/columns.ts'
import type { Sensor } from '../../shared/reading.ts'

/** Readings whose `sensor` numbers point into all sensors told so far. */
export type InternedReadings = Omit<ReadingColumns, 'sensors'> & {
  /** Sensors told for the first time; they take the next numbers. */
  fresh: Sensor[]
  /** The numbers start again from 0 with this group. */
  restart: boolean
}

/** Beyond this many, the numbers start again. */
const MAX_SENSORS = 100_000

export function createInterner(): (readings: ReadingColumns) => InternedReadings {
  const known = new Map<string, { number: number; sensor: Sensor }>()
  let next = 0
  return ({ sensors, ...readings }) => {
    const restart = next + sensors.length > MAX_SENSORS
    if (restart) {
      known.clear()
      next = 0
    }
    const fresh: Sensor[] = []
    const numbers = sensors.map((sensor) => {
      const before = known.get(sensor.id)
      if (before !== undefined && before.sensor.type === sensor.type && before.sensor.unit === sensor.unit)
        return before.number
      fresh.push(sensor)
      known.set(sensor.id, { number: next, sensor })
      next += 1
      return next - 1
    })
    const sensor = readings.sensor.map((index) => numbers[index] ?? 0)
    return { ...readings, sensor, fresh, restart }
  }
}

/** The other side: gives each group its sensors back. */
export function createRecaller(): (readings: InternedReadings) => ReadingColumns {
  let all: Sensor[] = []
  return ({ fresh, restart, ...readings }) => {
    if (restart) all = []
    for (const sensor of fresh) all.push(sensor)
    return { ...readings, sensors: all }
  }
}
