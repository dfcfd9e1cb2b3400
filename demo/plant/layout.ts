// What stands where in the simulated plant: two lines, three stations each, 20 sensors.

/** `low` and `high`: what such a sensor can show at all. `spread`: an ordinary deviation, the measure of its faults. */
export const QUANTITIES = {
  temperature: { unit: '°C', low: -20, high: 150, spread: 2 },
  vibration: { unit: 'mm/s', low: 0, high: 50, spread: 1 },
  pressure: { unit: 'bar', low: 0, high: 400, spread: 6 },
  humidity: { unit: '%', low: 0, high: 100, spread: 4 },
  voltage: { unit: 'V', low: 300, high: 500, spread: 5 }
} as const
export type Quantity = keyof typeof QUANTITIES

export type Machine = {
  line: string
  name: string
  /** Above the hall at full load, K. */
  heat: number
  /** Velocity RMS at full load when new, mm/s. */
  vibration: number
  /** Idle and at full load, bar; absent: it has no hydraulics. */
  pressure: [idle: number, full: number]
  /** What full load takes from the line's voltage, V. */
  droop: number
}

export const LINES = ['line-1', 'line-2'] as const

/** The sensors of a hall, and of a machine. */
export const HALL = 'hall'
export const HALL_QUANTITIES: readonly Quantity[] = ['temperature', 'humidity']
export const MACHINE_QUANTITIES: readonly Quantity[] = ['temperature', 'vibration', 'pressure', 'voltage']

export const MACHINES: readonly Machine[] = [
  { line: 'line-1', name: 'press-01', heat: 38, vibration: 4.2, pressure: [35, 210], droop: 6 },
  { line: 'line-1', name: 'press-02', heat: 34, vibration: 3.6, pressure: [35, 190], droop: 5 },
  { line: 'line-2', name: 'mill-01', heat: 27, vibration: 5.5, pressure: [4, 12], droop: 4 },
  { line: 'line-2', name: 'pump-01', heat: 22, vibration: 2.1, pressure: [2, 16], droop: 2 }
]
