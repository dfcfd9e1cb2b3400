import { encode } from 'cborg'
import fc from 'fast-check'
import t from 'tap'
import { MAX_BATCH_RECORDS } from '../../shared/batch/body.ts'
import type { Body, PlacedReject } from '../../shared/batch/body.ts'
import { createColumnBuilder, valueAt } from '../../shared/batch/columns.ts'
import {
  BATCH_VERSION,
  digestOf,
  hexOf,
  NO_PREDECESSOR,
  openBody,
  openEnvelope,
  sealBatch
} from '../../shared/batch/envelope.ts'
import { AppError } from '../../shared/errors.ts'
import type { Value } from '../../shared/reading.ts'

const EPOCH = '0123456789abcdef0123456789abcdef'

type Row = { sensor: string; timestampUs: number; receivedUs: number; quality: number; value: Value }

function bodyOf(rows: Row[], rejects: PlacedReject[] = []): Body {
  const builder = createColumnBuilder()
  for (const { sensor, ...row } of rows) builder.add({ sensor: { id: sensor, type: null, unit: null }, ...row })
  return { kind: 'readings', readings: builder.finish(), rejects }
}

function seal(body: Body, records: number, lane: 'readings' | 'maintenance' = 'readings') {
  return sealBatch(
    { gateway: 'plant-1', epoch: EPOCH, lane, batch: 1, firstSeq: 1, lastSeq: records, records },
    body,
    NO_PREDECESSOR
  )
}

function rowsOf(wire: Uint8Array): Row[] {
  const body = openBody(openEnvelope(wire))
  if (body.kind !== 'readings') throw new Error('not readings')
  const { readings } = body
  return Array.from({ length: readings.count }, (_unused, index) => ({
    sensor: readings.sensors[readings.sensor[index] ?? 0]?.id ?? '',
    timestampUs: readings.timestampUs[index] ?? 0,
    receivedUs: readings.receivedUs[index] ?? 0,
    quality: readings.quality[index] ?? 0,
    value: valueAt(readings, index)
  }))
}

/** A wire with a right digest over whatever header and content. */
function forged(header: unknown, content: Uint8Array, version = BATCH_VERSION): Uint8Array {
  const headerBytes = encode(header)
  return encode([version, digestOf(NO_PREDECESSOR, headerBytes, content), NO_PREDECESSOR, headerBytes, content])
}

function codeOfThrown(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    return error instanceof AppError ? error.code : `not an AppError: ${String(error)}`
  }
  return 'nothing thrown'
}

const time = fc.oneof(
  fc.integer({ min: 1_700_000_000_000_000, max: 1_800_000_000_000_000 }),
  fc.constantFrom(Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0, -1)
)
const row: fc.Arbitrary<Row> = fc.record({
  sensor: fc.constantFrom('a', 'b', 'plant/line-3/press-07/temperature', 'ü'),
  timestampUs: time,
  receivedUs: time,
  quality: fc.constantFrom(192, 64, 0, 32_767),
  value: fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer({ min: -1_000_000, max: 1_000_000 }).map((cents) => cents / 100),
    fc.constantFrom(-0, 0, 1, Number.MAX_VALUE, 5e-324),
    fc.constant(null),
    fc.string({ unit: 'binary' })
  )
})

t.test('readings come out of a batch bit for bit and in order', async (t) => {
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 60 }), (rows) => {
      const back = rowsOf(seal(bodyOf(rows), rows.length).wire)
      return back.length === rows.length && rows.every((expected, index) => sameRow(expected, back[index]))
    }),
    { numRuns: 2_000 }
  )
  t.pass()
})

function sameRow(a: Row, b: Row | undefined): boolean {
  return (
    b !== undefined &&
    a.sensor === b.sensor &&
    a.timestampUs === b.timestampUs &&
    a.receivedUs === b.receivedUs &&
    a.quality === b.quality &&
    Object.is(a.value, b.value)
  )
}

t.test('rejects keep their place and their bytes', async (t) => {
  const reject: PlacedReject = {
    id: '7b2c',
    reason: 'payload_unreadable',
    detail: 'not JSON',
    topic: 'plant/a',
    payload: new Uint8Array([0, 255, 13]),
    payloadBytes: 3,
    payloadSha256: null,
    receivedUs: 5,
    position: 1
  }
  const rows = [1, 2].map((value) => ({ sensor: 'a', timestampUs: value, receivedUs: 9, quality: 192, value }))
  const body = openBody(openEnvelope(seal(bodyOf(rows, [reject]), 3).wire))
  t.match(body, { kind: 'readings', rejects: [{ ...reject, payload: Buffer.from([0, 255, 13]) }] })
  t.equal(body.kind === 'readings' && body.readings.count, 2)
})

t.test('the chain starts at 32 zero bytes and the digest covers predecessor, header and content', async (t) => {
  const first = seal(bodyOf([{ sensor: 'a', timestampUs: 1, receivedUs: 1, quality: 192, value: 1 }]), 1)
  const envelope = openEnvelope(first.wire)
  t.equal(hexOf(envelope.predecessor), '00'.repeat(32))
  t.equal(hexOf(envelope.digest), hexOf(first.digest))
  t.match(envelope.header, {
    gateway: 'plant-1',
    epoch: EPOCH,
    lane: 'readings',
    batch: 1,
    firstSeq: 1,
    lastSeq: 1,
    records: 1,
    kind: 'data'
  })
})

t.test('any flipped bit is noticed', async (t) => {
  const { wire } = seal(bodyOf([{ sensor: 'a', timestampUs: 1, receivedUs: 1, quality: 192, value: 1 }]), 1)
  for (let bit = 0; bit < wire.length * 8; bit++) {
    const damaged = Uint8Array.from(wire)
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    const code = codeOfThrown(() => openEnvelope(damaged))
    if (!code.startsWith('batch_')) t.fail(`bit ${bit}: ${code}`)
  }
  t.equal(
    codeOfThrown(() => openEnvelope(wire.subarray(0, wire.length - 1))),
    'batch_unreadable'
  )
})

t.test('random bytes are unreadable, never a crash', async (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      (bytes) => codeOfThrown(() => openEnvelope(bytes)) === 'batch_unreadable'
    ),
    { numRuns: 3_000 }
  )
  t.pass()
})

t.test('another version is told apart, and its digest is named', async (t) => {
  try {
    openEnvelope(forged({}, new Uint8Array(), 2))
    t.fail('taken')
  } catch (error) {
    t.match(error, { code: 'batch_unsupported_version', cause: /^[0-9a-f]{64}$/ })
  }
})

t.test('what a batch announces bounds what opening it takes', async (t) => {
  const { wire } = seal(
    bodyOf([{ sensor: 'a', timestampUs: 1, receivedUs: 1, quality: 192, value: 'x'.repeat(60_000) }]),
    1
  )
  const { header, content } = openEnvelope(wire)
  t.equal(
    codeOfThrown(() => openBody(openEnvelope(forged({ ...header, bodyBytes: 100 }, content)))),
    'batch_unreadable',
    'a bomb'
  )
  t.equal(
    codeOfThrown(() => openEnvelope(forged({ ...header, records: MAX_BATCH_RECORDS + 1 }, content))),
    'batch_unreadable',
    'a million rows'
  )
  t.equal(
    codeOfThrown(() => openBody(openEnvelope(forged({ ...header, records: 2, lastSeq: 2 }, content)))),
    'batch_unreadable',
    'too few rows'
  )
  t.equal(
    codeOfThrown(() => openBody(openEnvelope(forged({ ...header, lastSeq: 9 }, content)))),
    'batch_unreadable',
    'seqs that disagree'
  )
})

t.test('a damaged content behind a right digest is unreadable, never a crash', async (t) => {
  const rows = Array.from({ length: 40 }, (_unused, index) => ({
    sensor: `s${index % 3}`,
    timestampUs: 1_700_000_000_000_000 + index * 1_000,
    receivedUs: 1_700_000_000_000_500 + index * 1_000,
    quality: 192,
    value: index % 5 === 0 ? `t${index}` : index / 4
  }))
  const builder = bodyOf(rows)
  const plain = seal(builder, rows.length)
  const { header } = openEnvelope(plain.wire)
  const { zstdDecompressSync, zstdCompressSync } = await import('node:zlib')
  const content = zstdDecompressSync(openEnvelope(plain.wire).content)
  fc.assert(
    fc.property(fc.nat(content.length - 1), fc.integer({ min: 1, max: 255 }), (position, change) => {
      const damaged = Uint8Array.from(content)
      damaged[position] = (damaged[position] ?? 0) ^ change
      const code = codeOfThrown(() => openBody(openEnvelope(forged(header, zstdCompressSync(damaged)))))
      return code === 'batch_unreadable' || code === 'nothing thrown'
    }),
    { numRuns: 3_000 }
  )
  t.pass()
})

t.test('events and tombstones travel whole', async (t) => {
  const event = {
    id: 'e1',
    task: 'grease-7',
    state: 'completed' as const,
    equipment: 'press-07',
    sensor: null,
    title: null,
    by: 'ann',
    note: 'done',
    timestampUs: 5,
    receivedUs: 6,
    topic: 'plant/maintenance'
  }
  t.same(openBody(openEnvelope(seal({ kind: 'maintenance', events: [event] }, 1, 'maintenance').wire)), {
    kind: 'maintenance',
    events: [event]
  })
  const tombstone = { id: 'gap', digest: 'ab'.repeat(32), records: 9, sensors: ['a'], fromUs: 1, toUs: 2 }
  const wire = seal({ kind: 'tombstone', tombstone }, 9).wire
  t.equal(openEnvelope(wire).header.kind, 'tombstone')
  t.same(openBody(openEnvelope(wire)), { kind: 'tombstone', tombstone })
})
