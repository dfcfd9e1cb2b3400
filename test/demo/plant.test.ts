import t from 'tap'
import { createDecoder } from '../../edge/decode/decode.ts'
import { createPlant } from '../../demo/plant.ts'
import type { Plant, PlantReading } from '../../demo/plant.ts'
import { QUANTITIES } from '../../demo/plant/layout.ts'
import type { PlantEvent } from '../../demo/plant/maintenance.ts'
import { eventPayload, readingPayload } from '../../demo/plant/payload.ts'

const START_MS = Date.UTC(2026, 2, 9, 6)
const HOUR_S = 3_600

type Course = { readings: PlantReading[]; events: PlantEvent[] }

/** What the plant says in `seconds`, a sample each `everyS`. */
function run(plant: Plant, seconds: number, everyS = 1, startMs = START_MS): Course {
  const course: Course = { readings: [], events: [] }
  for (let s = 0; s < seconds; s += everyS) {
    const { readings, events } = plant.sample(startMs + s * 1_000)
    course.readings.push(...readings)
    course.events.push(...events)
  }
  return course
}

/** The readings of one sensor that no fault touches. */
function valuesOf({ readings }: Course, topic: string): number[] {
  return readings.flatMap(({ sensor, fault, value }) =>
    sensor.topic === topic && fault === null && value !== null ? [value] : []
  )
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Pearson's coefficient of two courses, sample by sample. */
function correlation(a: number[], b: number[]): number {
  const n = Math.min(a.length, b.length)
  const [meanA, meanB] = [mean(a), mean(b)]
  let [products, squaresA, squaresB] = [0, 0, 0]
  for (let i = 0; i < n; i += 1) {
    const [x, y] = [(a[i] ?? 0) - meanA, (b[i] ?? 0) - meanB]
    products += x * y
    squaresA += x * x
    squaresB += y * y
  }
  return products / Math.sqrt(squaresA * squaresB)
}

/** A day at one sample a minute without faults: a reading under a fault is replaced by the one before. */
function faultlessDay(seed: number): Map<string, number[]> {
  const plant = createPlant({ seed })
  const courses = new Map<string, number[]>(plant.sensors.map(({ topic }) => [topic, []]))
  for (let minute = 0; minute < 1_440; minute += 1) {
    for (const { sensor, value, fault } of plant.sample(START_MS + minute * 60_000).readings) {
      const course = courses.get(sensor.topic) ?? []
      course.push(fault === null && value !== null ? value : (course.at(-1) ?? 0))
    }
  }
  return courses
}

t.test('the plant has 20 sensors of five quantities with topics of their own', async (t) => {
  const { sensors } = createPlant({ seed: 1 })
  t.equal(sensors.length, 20)
  t.equal(new Set(sensors.map(({ topic }) => topic)).size, 20)
  t.same([...new Set(sensors.map(({ quantity }) => quantity))].sort(), Object.keys(QUANTITIES).sort())
  t.ok(sensors.some(({ topic }) => topic === 'plant/line-1/press-01/temperature'))
})

t.test('the same seed gives the same readings and events', async (t) => {
  const [first, second] = [run(createPlant({ seed: 7 }), 600), run(createPlant({ seed: 7 }), 600)]
  t.same(second, first)
  t.equal(first.readings.length, 12_000)
  t.ok(first.events.length > 0)
})

t.test('another seed gives other readings', async (t) => {
  const [first, second] = [run(createPlant({ seed: 7 }), 60), run(createPlant({ seed: 8 }), 60)]
  const same = first.readings.filter(({ value }, i) => value === second.readings[i]?.value)
  t.ok(same.length < first.readings.length / 10, `${same.length} of ${first.readings.length} are the same`)
})

t.test('values are finite, have two decimals and stay within what such a sensor can show', async (t) => {
  const { readings } = run(createPlant({ seed: 3 }), 24 * HOUR_S, 20)
  const wrong = readings.filter(({ value, sensor }) => {
    if (value === null) return false
    const { low, high } = QUANTITIES[sensor.quantity]
    return !Number.isFinite(value) || value < low || value > high || value !== Number(value.toFixed(2))
  })
  t.same(wrong, [])
})

t.test('without faults the values are those of a plant', async (t) => {
  const ordinary = {
    temperature: [10, 75],
    vibration: [0, 15],
    pressure: [0, 240],
    humidity: [20, 90],
    voltage: [375, 415]
  } as const
  const { readings } = run(createPlant({ seed: 3 }), 24 * HOUR_S, 20)
  const wrong = readings.filter(({ value, fault, sensor }) => {
    const [low, high] = ordinary[sensor.quantity]
    return fault === null && (value === null || value < low || value > high)
  })
  t.same(wrong.slice(0, 3), [])
})

t.test('a hall is warmer in the afternoon than at night', async (t) => {
  const course = faultlessDay(5).get('plant/line-1/hall/temperature') ?? []
  // The day begins at 06:00 UTC.
  const afternoon = mean(course.slice(8 * 60, 10 * 60))
  const night = mean(course.slice(20 * 60, 22 * 60))
  t.ok(afternoon - night > 3, `${afternoon.toFixed(1)} and ${night.toFixed(1)} °C`)
})

t.test('what physics ties together moves together', async (t) => {
  const day = faultlessDay(5)
  const course = (place: string) => day.get(`plant/line-1/${place}`) ?? []
  const dry = correlation(course('hall/temperature'), course('hall/humidity'))
  t.ok(dry < -0.5, `warm air is dry: ${dry.toFixed(2)}`)
  const loaded = correlation(course('press-01/pressure'), course('press-01/vibration'))
  t.ok(loaded > 0.7, `a loaded press shakes: ${loaded.toFixed(2)}`)
  const drooping = correlation(course('press-01/pressure'), course('press-01/voltage'))
  t.ok(drooping < -0.2, `and pulls the voltage down: ${drooping.toFixed(2)}`)
})

t.test('faults of each kind occur, seldom', async (t) => {
  const { readings } = run(createPlant({ seed: 11 }), 4 * HOUR_S)
  const of = (fault: string) => readings.filter((reading) => reading.fault === fault)
  for (const fault of ['spike', 'stuck', 'dropout', 'drift']) t.ok(of(fault).length > 0, fault)
  const share = readings.filter(({ fault }) => fault !== null).length / readings.length
  t.ok(share < 0.1, `${(share * 100).toFixed(1)} % of the readings are under a fault`)
  t.ok(of('dropout').every(({ value, quality }) => value === null && quality === 0))
  t.ok(readings.every(({ fault, value, quality }) => fault !== null || (value !== null && quality === 192)))
})

t.test('a stuck sensor repeats one value', async (t) => {
  const plant = createPlant({ seed: 11 })
  const runs = new Map<string, Set<number | null>>()
  let longest = 0
  for (let s = 0; s < HOUR_S; s += 1) {
    for (const { sensor, fault, value } of plant.sample(START_MS + s * 1_000).readings) {
      if (fault !== 'stuck') runs.delete(sensor.topic)
      else runs.set(sensor.topic, (runs.get(sensor.topic) ?? new Set()).add(value))
      longest = Math.max(longest, runs.get(sensor.topic)?.size ?? 0)
    }
  }
  t.equal(longest, 1)
})

t.test('work orders go from pending over in_progress to an end, one after the other', async (t) => {
  const { events } = run(createPlant({ seed: 2 }), 2 * HOUR_S)
  const orders = Map.groupBy(events, ({ task }) => task)
  t.ok(orders.size > 5, `${orders.size} orders in two hours`)
  const whole = [...orders.values()].slice(0, -1)
  for (const states of whole.map((order) => order.map(({ state }) => state))) {
    t.match(states.join(' '), /^pending in_progress (completed|partially_completed|failed)$/)
  }
  t.equal(new Set(events.map(({ eventId }) => eventId)).size, events.length)
  t.ok(events.every(({ topic, equipment }) => topic.endsWith(`/${equipment}/maintenance`)))
})

t.test('a machine that is worked on stands still', async (t) => {
  const plant = createPlant({ seed: 2 })
  const shaking: number[] = []
  let working: { equipment: string; sinceMs: number } | null = null
  for (let s = 0; s < HOUR_S; s += 1) {
    const atMs = START_MS + s * 1_000
    const { readings, events } = plant.sample(atMs)
    for (const { state, equipment } of events) working = state === 'in_progress' ? { equipment, sinceMs: atMs } : null
    if (working === null || atMs - working.sinceMs < 30_000) continue
    const topic = new RegExp(`/${working.equipment}/vibration$`)
    const reading = readings.find(({ sensor }) => topic.test(sensor.topic))
    if (reading?.fault === null && reading.value !== null) shaking.push(reading.value)
  }
  t.ok(shaking.length > 0)
  t.ok(Math.max(...shaking) < 0.5, `at most ${Math.max(...shaking)} mm/s`)
})

t.test('at the end of the shift what is open is ended', async (t) => {
  const plant = createPlant({ seed: 2 })
  const { events } = run(plant, 10)
  t.same(
    events.map(({ state }) => state),
    ['pending']
  )
  const atMs = START_MS + 10_000
  t.same(
    plant.finish(atMs).map(({ state, task }) => ({ state, task })),
    [{ state: 'cancelled', task: events[0]?.task }]
  )
  t.same(plant.finish(atMs + 1), [])
})

t.test('the edge reads what the plant says, without a mapping', async (t) => {
  const decode = createDecoder({ sensorPrefix: '' })
  const read = (topic: string, payload: string) =>
    decode({ topic, payload: Buffer.from(payload), retained: false, receivedUs: 0, newId: () => 'made at intake' })
  const { readings, events } = run(createPlant({ seed: 2 }), 60)
  t.same(
    readings.flatMap((reading) => read(reading.sensor.topic, readingPayload(reading)).readings),
    readings.map(({ sensor, timestampMs, value, quality }) => ({
      sensor: { id: sensor.topic, type: sensor.quantity, unit: sensor.unit },
      timestampUs: timestampMs * 1_000,
      value,
      quality
    }))
  )
  t.match(
    events.flatMap((event) => read(event.topic, eventPayload(event)).events),
    events.map(({ eventId, task, state, equipment, title, by, timestampMs }) => {
      return { id: eventId, task, state, equipment, title, by, timestampUs: timestampMs * 1_000 }
    })
  )
})

t.test('a small gap between values of one sensor is noise, not a jump', async (t) => {
  const course = run(createPlant({ seed: 9 }), 600)
  const values = valuesOf(course, 'plant/line-1/hall/temperature')
  const jumps = values.slice(1).map((value, i) => Math.abs(value - (values[i] ?? value)))
  t.ok(Math.max(...jumps) < 0.6, `largest step ${Math.max(...jumps).toFixed(2)} K`)
})
