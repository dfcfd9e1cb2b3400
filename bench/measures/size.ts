// Bytes on the wire, and in the edge's buffer, of a reading in a full batch.
import { createReadings, sealAll } from '../batches.ts'
import type { Bench } from '../bench.ts'
import { figureOf } from '../figures.ts'

const SENSORS = 200
const FULL_RECORDS = 5_000
const COUNT = 20 * FULL_RECORDS

export const sizeBench: Bench = {
  name: 'size',
  about: 'bytes of a sealed reading: 200 two-decimal signals at 1 Hz in full batches',
  expectedS: { once: 0, round: 1 },
  async run({ seed, rounds }) {
    const sizeOf = (signals: { jitterMs: number; step: number }) =>
      Array.from({ length: rounds }, (_, round) => {
        const columns = createReadings({
          count: COUNT,
          sensors: SENSORS,
          endMs: Date.now(),
          seed: seed + round,
          ...signals
        })
        return sealAll(columns, FULL_RECORDS).reduce((bytes, wire) => bytes + wire.length, 0) / COUNT
      })
    return {
      figures: [
        figureOf({
          name: 'sealed reading, even',
          unit: 'B',
          rounds: sizeOf({ jitterMs: 0, step: 0.1 }),
          target: { atMost: 6 }
        }),
        figureOf({
          name: 'sealed reading, restless',
          unit: 'B',
          rounds: sizeOf({ jitterMs: 9, step: 2 }),
          target: { atMost: 6 }
        })
      ],
      notes: [
        'envelope, digests and sensor ids included; each reading was received 1 to 4 ms after its time',
        'even: times exactly a second apart, values by up to 0.10; restless: times up to 9 ms late, values by up to 2.00'
      ],
      skipped: null
    }
  }
}
