// What the simulated sensors measure is made of: seeded chance, slow processes, and the faults of a sensor.
//
// The same seed and the same sample times give the same sequence on every machine.
import { QUALITY_BAD, QUALITY_GOOD, QUALITY_UNCERTAIN } from '../shared/reading.ts'

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000

export type Random = {
  /** From 0 up to, not including, 1. */
  uniform(): number
  between(low: number, high: number): number
  /** Mean 0, standard deviation 1. */
  normal(): number
  /** The time until the next of events that come by chance, `meanS` apart on average, s. */
  waitS(meanS: number): number
}

/**
 * Streams of one seed don't depend on each other. The generator is a Weyl sequence through the 32-bit finalizer of
 * MurmurHash3, as in Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
 */
export function createRandom(seed: number, stream: number): Random {
  let state = mix(mix(seed >>> 0) + Math.imul(stream + 1, 0x9e3779b9))
  function uniform(): number {
    state = (state + 0x9e3779b9) | 0
    return (mix(state) >>> 0) / 2 ** 32
  }
  return {
    uniform,
    between: (low, high) => low + (high - low) * uniform(),
    // Box and Muller, 1958.
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    waitS: (meanS) => -meanS * Math.log(1 - uniform())
  }
}

function mix(value: number): number {
  let bits = value | 0
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return bits ^ (bits >>> 16)
}

/** A value that is asked for anew after `elapsedS` seconds. */
export type Process = (elapsedS: number) => number

/**
 * A slow random walk that is drawn back to 0: standard deviation `deviation`, forgotten after about `memoryS`.
 * The exact step of the Ornstein–Uhlenbeck process: Gillespie, Physical Review E 54, 1996, equation 1.9a.
 */
export function createWalk(random: Random, deviation: number, memoryS: number): Process {
  let value = deviation * random.normal()
  return (elapsedS) => {
    const kept = Math.exp(-elapsedS / memoryS)
    value = value * kept + deviation * Math.sqrt(1 - kept * kept) * random.normal()
    return value
  }
}

/** Follows its target with the time constant `delayS`, as a mass does that is heated. Begins at the first target. */
export function createLag(delayS: number): (target: number, elapsedS: number) => number {
  let value: number | null = null
  return (target, elapsedS) => {
    value = value === null ? target : target + (value - target) * Math.exp(-elapsedS / delayS)
    return value
  }
}

/** The daily course: 1 at `peakHour` UTC, -1 twelve hours later. */
export function daily(atMs: number, peakHour: number): number {
  return Math.cos((2 * Math.PI * (atMs - peakHour * HOUR_MS)) / DAY_MS)
}

/**
 * Relative humidity of air at `temperature` with the dew point `dewPoint`, both °C; %. The Magnus formula with the
 * coefficients of the WMO's Guide to Instruments and Methods of Observation (WMO-No. 8), annex 4.B.
 */
export function relativeHumidity(temperature: number, dewPoint: number): number {
  const exponent = (celsius: number) => (17.62 * celsius) / (243.12 + celsius)
  return 100 * Math.exp(exponent(Math.min(dewPoint, temperature)) - exponent(temperature))
}

export const FAULTS = ['spike', 'stuck', 'dropout', 'drift'] as const
export type Fault = (typeof FAULTS)[number]

export type Measured = {
  /** Null while the sensor gives nothing. */
  value: number | null
  quality: number
  fault: Fault | null
}

/** How long each fault lasts, s; a spike is one sample. */
const LASTS_S: Record<Fault, [shortest: number, longest: number]> = {
  spike: [0, 0],
  stuck: [20, 120],
  dropout: [5, 30],
  drift: [60, 300]
}

/** A fault's size, in the sensor's ordinary spreads. */
const SIZE: [smallest: number, largest: number] = [3, 8]

/**
 * A sensor between the truth and what it says, with a fault now and then. The sensor knows of a dropout, and of a drift
 * once it is half way; a spike and a stuck value look good, as they do in a plant.
 */
export function createFaultySensor(options: {
  random: Random
  /** Between two faults, s on average. */
  meanGapS: number
  spread: number
}): (truth: number, elapsedS: number) => Measured {
  const { random, meanGapS, spread } = options
  let current: { fault: Fault; size: number; lastsS: number; sinceS: number } | null = null
  let untilNextS = random.waitS(meanGapS)
  let last: number | null = null

  function begin(): void {
    const fault = FAULTS[Math.floor(random.uniform() * FAULTS.length)] ?? 'spike'
    const sign = random.uniform() < 0.5 ? -1 : 1
    current = {
      fault,
      size: sign * random.between(...SIZE) * spread,
      lastsS: random.between(...LASTS_S[fault]),
      sinceS: 0
    }
    untilNextS = current.lastsS + random.waitS(meanGapS)
  }

  return (truth, elapsedS) => {
    untilNextS -= elapsedS
    if (current !== null) current.sinceS += elapsedS
    if (current !== null && current.sinceS >= current.lastsS) current = null
    if (untilNextS <= 0) begin()
    const fault = current?.fault ?? null
    if (current === null) {
      last = truth
      return { value: truth, quality: QUALITY_GOOD, fault }
    }
    switch (current.fault) {
      case 'spike':
        return { value: truth + current.size, quality: QUALITY_GOOD, fault }
      case 'stuck':
        last ??= truth
        return { value: last, quality: QUALITY_GOOD, fault }
      case 'dropout':
        return { value: null, quality: QUALITY_BAD, fault }
      case 'drift': {
        const share = current.sinceS / current.lastsS
        return { value: truth + current.size * share, quality: share < 0.5 ? QUALITY_GOOD : QUALITY_UNCERTAIN, fault }
      }
    }
  }
}
