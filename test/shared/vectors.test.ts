// The written-down batches of shared/batch/vectors.json decode to what stands beside them: the format must not change unnoticed.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { z } from 'zod'
import { valueAt } from '../../shared/batch/columns.ts'
import { hexOf, openBody, openEnvelope } from '../../shared/batch/envelope.ts'

const vector = z.object({
  name: z.string(),
  wire: z.base64(),
  digest: z.string(),
  predecessor: z.string(),
  header: z.record(z.string(), z.unknown()),
  // JSON has no minus zero: it is written as the text '-0'.
  readings: z.array(
    z.looseObject({ value: z.union([z.literal('-0').transform(() => -0), z.number(), z.string(), z.null()]) })
  ),
  rejects: z.array(z.looseObject({ payload: z.base64() })),
  events: z.array(z.unknown()),
  tombstone: z.unknown()
})
const vectors = z
  .array(vector)
  .min(4)
  .parse(JSON.parse(readFileSync(new URL('../../shared/batch/vectors.json', import.meta.url), 'utf8')))

for (const expected of vectors) {
  t.test(`vector: ${expected.name}`, async (t) => {
    const envelope = openEnvelope(Buffer.from(expected.wire, 'base64'))
    t.equal(hexOf(envelope.digest), expected.digest)
    t.equal(hexOf(envelope.predecessor), expected.predecessor)
    t.match(envelope.header, expected.header)
    const body = openBody(envelope)
    if (body.kind === 'tombstone') return t.same(body.tombstone, expected.tombstone)
    if (body.kind === 'maintenance') return t.same(body.events, expected.events)
    const { readings, rejects } = body
    t.equal(readings.count, expected.readings.length)
    for (const [index, reading] of expected.readings.entries()) {
      const sensor = readings.sensors[readings.sensor[index] ?? 0]
      const value = valueAt(readings, index)
      t.ok(Object.is(value, reading.value), `value ${String(value)}`)
      t.match(reading, {
        sensor: sensor?.id,
        unit: sensor?.unit,
        timestampUs: readings.timestampUs[index],
        receivedUs: readings.receivedUs[index],
        quality: readings.quality[index]
      })
    }
    t.same(
      rejects.map((reject) => ({ ...reject, payload: Buffer.from(reject.payload).toString('base64') })),
      expected.rejects
    )
  })
}
