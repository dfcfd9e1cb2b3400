// Random batches against a model of a few lines.
import t from 'tap'
import fc from 'fast-check'
import type { Arrived } from '../../cloud/ingest/arrival.ts'
import { BASE_US, createChain, epochOf } from '../helpers/batches.ts'
import { openIngest, unbalanced } from '../helpers/ingest.ts'

const DAY_US = 86_400_000_000

t.test('whatever comes, rows and dead letters are those of a simple model', async (t) => {
  const bench = await openIngest(t)
  await bench.sql(`ALTER TABLE sensor_readings ADD CONSTRAINT sane CHECK (value <> 666)`)
  const reading = fc.record({
    sensor: fc.constantFrom('a', 'b', 'c', 'theirs', 'n\0l'),
    offset: fc.integer({ min: 0, max: 12 }),
    value: fc.constantFrom(1, 2, null, 'text', 'n\0l', 666),
    far: fc.integer({ min: 0, max: 19 })
  })
  const plan = fc.array(
    fc.record({ readings: fc.array(reading, { minLength: 1, maxLength: 12 }), again: fc.boolean() }),
    { minLength: 1, maxLength: 8 }
  )
  let run = 0
  await fc.assert(
    fc.asyncProperty(plan, fc.boolean(), async (batches, atOnce) => {
      run += 1
      await bench.sql('TRUNCATE sensor_readings, sensors, dead_letters, ingest_batches, ingest_lanes, gateways')
      const writer = bench.writer()
      const chain = createChain('g', epochOf(`run ${run}`))
      await writer.write([
        createChain('owner', epochOf(`run ${run}`)).readings([{ sensor: 'theirs', timestampUs: BASE_US - 1 }]).arrived
      ])
      const rows = new Map<string, unknown>()
      // A refused record that comes again is the same dead letter, and a duplicate.
      const letters = new Set<string>()
      let duplicates = 0
      const sent: { arrived: Arrived }[] = []
      for (const { readings, again } of batches) {
        const batch = chain.readings(
          readings.map(({ sensor, offset, value, far }) => ({
            sensor,
            timestampUs: far === 0 ? BASE_US - 1_000 * DAY_US : BASE_US + offset,
            value
          }))
        )
        sent.push(batch, ...(again ? [batch] : []))
        for (const { sensor, offset, value, far } of readings) {
          const key = `${sensor}@${offset}`
          const refuse = () => {
            const record = JSON.stringify([sensor, far === 0 ? 'far' : offset, value])
            if (letters.has(record)) duplicates += 1
            else letters.add(record)
          }
          const bad = far === 0 || sensor === 'theirs' || sensor.includes('\0') || value === 'n\0l'
          if (bad || (value === 666 && !rows.has(key))) refuse()
          else if (!rows.has(key)) rows.set(key, value)
          else if (rows.get(key) === value) duplicates += 1
          else refuse()
        }
      }
      if (atOnce) await writer.write(sent.map(({ arrived }) => arrived))
      else for (const { arrived } of sent) await writer.write([arrived])
      const stored = await bench.sql(`
        SELECT sensor_id || '@' || (extract(epoch FROM timestamp) * 1000000)::bigint - ${BASE_US} AS key, value, value_text
        FROM sensor_readings WHERE sensor_id <> 'theirs'`)
      t.same(new Map(stored.map((row) => [row['key'], row['value'] ?? row['value_text']])), rows)
      t.same(await bench.sql(`SELECT stored, duplicates, dead_lettered FROM ingest_lanes WHERE gateway_id = 'g'`), [
        { stored: rows.size, duplicates, dead_lettered: letters.size }
      ])
      t.same(await bench.sql('SELECT count(*) FROM dead_letters'), [{ count: letters.size }])
      t.same(await unbalanced(bench), [])
      await writer.close()
    }),
    { numRuns: 25, seed: 7 }
  )
})
