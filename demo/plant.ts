// The simulated plant: 20 sensors on two lines, measured together, and the maintenance of its machines.
//
// What belongs together moves together: a loaded machine is warm, shakes, builds pressure and pulls its line's voltage
// down; a hall that warms up gets drier; a machine under maintenance stands still and is as new afterwards.
// The same seed and the same sample times give the same readings and events.
import { HALL, HALL_QUANTITIES, LINES, MACHINE_QUANTITIES, MACHINES, QUANTITIES } from './plant/layout.ts'
import type { Machine, Quantity } from './plant/layout.ts'
import { createMaintenance } from './plant/maintenance.ts'
import type { PlantEvent } from './plant/maintenance.ts'
import { createFaultySensor, createLag, createRandom, createWalk, daily, relativeHumidity } from './signals.ts'
import type { Fault, Measured, Random } from './signals.ts'

export type PlantSensor = { topic: string; quantity: Quantity; unit: string }

export type PlantReading = {
  sensor: PlantSensor
  timestampMs: number
  /** Two decimals; null while the sensor gives nothing. */
  value: number | null
  quality: number
  fault: Fault | null
}

export type Plant = {
  sensors: PlantSensor[]
  /** All sensors at `atMs`, which is later than at the last call. */
  sample(atMs: number): { readings: PlantReading[]; events: PlantEvent[] }
  /** The last events, when the plant is shut down. */
  finish(atMs: number): PlantEvent[]
}

/** One sensor's faults, s apart on average: with 20 sensors one in the plant about every 90 s. */
const FAULT_GAP_S = 1_800
/** A gap between samples counts as this long at most: a machine that slept doesn't wake up far away. s. */
const LONGEST_STEP_S = 3_600
/** Wear doubles the vibration after this long without maintenance, s. */
const WEAR_OUT_S = 86_400
const LARGEST_WEAR = 2

/** What is true at a place, by quantity. */
type Truth = Partial<Record<Quantity, number>>

/** `prefix`: the first level of the topics. */
export function createPlant(options: { seed: number; prefix?: string }): Plant {
  const { seed } = options
  const prefix = options.prefix ?? 'plant'
  let streams = 0
  const nextRandom = () => createRandom(seed, streams++)

  const maintenance = createMaintenance({
    random: nextRandom(),
    machines: MACHINES.map(({ line, name }) => ({ name, topic: `${prefix}/${line}/${name}/maintenance` }))
  })
  const lines = LINES.map((name) => ({ name, sample: createLine(nextRandom()) }))
  const machines = MACHINES.map((machine) => ({ machine, sample: createMachine(machine, nextRandom()) }))
  const places = [
    ...LINES.map((line) => ({ place: `${line}/${HALL}`, quantities: HALL_QUANTITIES })),
    ...MACHINES.map(({ line, name }) => ({ place: `${line}/${name}`, quantities: MACHINE_QUANTITIES }))
  ]
  const sensors = places.flatMap(({ place, quantities }) =>
    quantities.map((quantity) => {
      const { unit, spread } = QUANTITIES[quantity]
      const measure = createFaultySensor({ random: nextRandom(), meanGapS: FAULT_GAP_S, spread })
      return { place, measure, sensor: { topic: `${prefix}/${place}/${quantity}`, quantity, unit } }
    })
  )
  let lastMs: number | null = null

  return {
    sensors: sensors.map(({ sensor }) => sensor),
    sample(atMs) {
      const elapsedS = Math.min(LONGEST_STEP_S, Math.max(0, (atMs - (lastMs ?? atMs)) / 1_000))
      lastMs = atMs
      const events = maintenance.step(atMs)
      const truths = new Map<string, Truth>()
      for (const { name, sample } of lines) truths.set(`${name}/${HALL}`, sample(atMs, elapsedS))
      for (const { machine, sample } of machines) {
        const hall = truths.get(`${machine.line}/${HALL}`) ?? {}
        truths.set(
          `${machine.line}/${machine.name}`,
          sample(atMs, elapsedS, hall, maintenance.stopped() === machine.name)
        )
      }
      const readings = sensors.map(({ place, measure, sensor }) => {
        const measured = measure(truths.get(place)?.[sensor.quantity] ?? 0, elapsedS)
        return { sensor, timestampMs: atMs, ...measured, value: shown(measured, sensor.quantity) }
      })
      return { readings, events }
    },
    finish: (atMs) => maintenance.finish(atMs)
  }
}

/** A hall's climate and the voltage that its line gets. */
function createLine(random: Random): (atMs: number, elapsedS: number) => Truth {
  const weather = createWalk(random, 0.8, 3_600)
  const moisture = createWalk(random, 1.5, 10_800)
  const mains = createWalk(random, 2.5, 900)
  return (atMs, elapsedS) => {
    const temperature = 21 + 3 * daily(atMs, 15) + weather(elapsedS)
    const dewPoint = 10 + moisture(elapsedS)
    return {
      temperature: temperature + 0.05 * random.normal(),
      humidity: relativeHumidity(temperature, dewPoint) + 0.3 * random.normal(),
      voltage: 400 + 1.5 * daily(atMs, 3) + mains(elapsedS)
    }
  }
}

function createMachine(
  machine: Machine,
  random: Random
): (atMs: number, elapsedS: number, hall: Truth, stopped: boolean) => Truth {
  const demand = createWalk(random, 0.1, 600)
  const speed = createLag(8)
  const heat = createLag(900)
  const [idle, full] = machine.pressure
  let sinceServiceS = random.between(0, WEAR_OUT_S)
  return (atMs, elapsedS, hall, stopped) => {
    sinceServiceS = stopped ? 0 : sinceServiceS + elapsedS
    const wanted = 0.6 + 0.2 * daily(atMs, 14) + demand(elapsedS)
    const load = speed(stopped ? 0 : Math.min(1, Math.max(0.1, wanted)), elapsedS)
    const wear = Math.min(LARGEST_WEAR, 1 + sinceServiceS / WEAR_OUT_S)
    return {
      temperature: (hall.temperature ?? 0) + machine.heat * heat(load, elapsedS) + 0.15 * random.normal(),
      vibration: Math.max(0, (0.1 + machine.vibration * load * wear) * (1 + 0.04 * random.normal())),
      pressure: (stopped ? idle * load : idle + (full - idle) * load) * (1 + 0.005 * random.normal()),
      voltage: (hall.voltage ?? 0) - machine.droop * load + 0.3 * random.normal()
    }
  }
}

/** As the display of such a sensor: within its range, two decimals. */
function shown({ value }: Measured, quantity: Quantity): number | null {
  if (value === null) return null
  const { low, high } = QUANTITIES[quantity]
  return Math.round(Math.min(high, Math.max(low, value)) * 100) / 100
}
