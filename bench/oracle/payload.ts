// The bytes of a message, in the forms that docs/input.md allows, and some that it doesn't.
import type { Random } from './random.ts'

export type Value = number | string | boolean | null

/** A number's JSON text that gives exactly this double back, and never looks like an integer beyond 2^53. */
function numberText(value: number): string {
  if (Object.is(value, -0)) return '-0'
  return Math.abs(value) >= 2 ** 53 ? value.toExponential() : JSON.stringify(value)
}

export function valueText(value: Value): string {
  return typeof value === 'number' ? numberText(value) : JSON.stringify(value)
}

export function timestampText(random: Random, timestampUs: number): string {
  switch (random.between(0, 2)) {
    case 0:
      return String(timestampUs)
    case 1:
      return `${Math.floor(timestampUs / 1_000)}.${String(timestampUs % 1_000).padStart(3, '0')}`
    default: {
      const iso = new Date(Math.floor(timestampUs / 1_000)).toISOString().slice(0, -1)
      return `"${iso}${String(timestampUs % 1_000).padStart(3, '0')}Z"`
    }
  }
}

export function randomValue(random: Random): Value {
  const die = random.between(0, 99)
  if (die < 45) return Math.round((20 + 10 * random.next()) * 100) / 100
  if (die < 75) return random.double()
  if (die < 80) return random.between(-1_000_000, 1_000_000)
  if (die < 85) return random.pick([0, -0, 5e-324, -5e-324, Number.MAX_VALUE, 2 ** 53, -(2 ** 53), 0.1 + 0.2])
  if (die < 92) return random.pick(['auto', 'manual', 'Störung – Lüfter', '压力', '"quoted"\n\\', '1e5', ''])
  if (die < 97) return random.chance(0.5)
  return null
}

/** What no edge can read, with the marker among its bytes. */
export function poison(random: Random, marker: string): { topic: string; payload: Buffer } {
  const topic = `plant/poison/${random.between(1, 5)}`
  const texts: [string, ...string[]] = [
    `{"value": 1, "note": "${marker}"`,
    `{"value": NaN, "note": "${marker}"}`,
    `{"value": 1e400, "note": "${marker}"}`,
    `{"note": "${marker}"}`,
    `{"value": 1, "timestamp": "2026-11-22T01:02:03", "note": "${marker}"}`,
    `{"value": 1, "sensor_id": "${marker}${'x'.repeat(3_000)}"}`,
    `{"value": ${'['.repeat(100)}${']'.repeat(100)}, "note": "${marker}"}`,
    `{"__proto__": {"value": 1}, "note": "${marker}"}`,
    `{"value": "${marker}${'y'.repeat(70_000)}"}`
  ]
  if (random.chance(0.1)) return { topic, payload: Buffer.from([0xff, 0xfe, ...Buffer.from(marker), 0xc3]) }
  if (random.chance(0.1)) {
    return { topic: 'plant/poison/maintenance', payload: Buffer.from(`{"task": "${marker}", "state": "nearly done"}`) }
  }
  return { topic, payload: Buffer.from(random.pick(texts)) }
}
