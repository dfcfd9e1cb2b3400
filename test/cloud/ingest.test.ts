// Batches into PostgreSQL: exactly once, and one bad record never sinks the others.
import t from 'tap'
import type { Arrived } from '../../cloud/ingest/arrival.ts'
import { BASE_MS, BASE_US, createChain, epochOf, ramp, withContent } from '../helpers/batches.ts'
import type { TestReading } from '../helpers/batches.ts'
import { NOW_MS, openIngest, openSession, unbalanced, writeAll } from '../helpers/ingest.ts'
import { waitFor } from '../helpers/wait-for.ts'

const DAY_US = 86_400_000_000
const committed = { result: 'committed', reason: null, stored: 0, duplicates: 0, deadLetters: 0 }

t.test('a batch is stored with its ledger row, its sensors and its sums', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const chain = createChain('hall-a')
  const batch = chain.readings([
    {
      sensor: 's1',
      timestampUs: BASE_US + 1,
      value: 21.5,
      quality: 64,
      type: 'temperature',
      unit: '°C',
      receivedUs: BASE_US + 7
    },
    { sensor: 's2', timestampUs: BASE_US + 1, value: 'open' },
    { sensor: 's1', timestampUs: BASE_US, value: null, quality: 0 },
    { sensor: 's1', timestampUs: BASE_US + 7_200_000_000, value: -0.25 }
  ])
  t.same(await writer.write([batch.arrived]), [{ ...committed, stored: 4 }])
  const rows = await bench.sql(`
    SELECT (extract(epoch FROM timestamp) * 1000000)::bigint AS us, sensor_id, value, value_text, quality,
      (extract(epoch FROM received_at) * 1000000)::bigint AS received_us
    FROM sensor_readings ORDER BY timestamp, sensor_id`)
  t.same(rows, [
    { us: BASE_US, sensor_id: 's1', value: null, value_text: null, quality: 0, received_us: BASE_US },
    { us: BASE_US + 1, sensor_id: 's1', value: 21.5, value_text: null, quality: 64, received_us: BASE_US + 7 },
    { us: BASE_US + 1, sensor_id: 's2', value: null, value_text: 'open', quality: 192, received_us: BASE_US },
    { us: BASE_US + 7_200_000_000, sensor_id: 's1', value: -0.25, value_text: null, quality: 192, received_us: BASE_US }
  ])
  t.same(await bench.sql('SELECT sensor_id, sensor_type, unit, gateway_id FROM sensors ORDER BY sensor_id'), [
    { sensor_id: 's1', sensor_type: 'temperature', unit: '°C', gateway_id: 'hall-a' },
    { sensor_id: 's2', sensor_type: null, unit: null, gateway_id: 'hall-a' }
  ])
  const [ledger] = await bench.sql(`
    SELECT gateway_id, epoch, lane, batch, kind, first_seq, last_seq, predecessor, encode(digest, 'hex') AS digest,
      records, stored, touched::text FROM ingest_batches`)
  t.same(ledger, {
    gateway_id: 'hall-a',
    epoch: chain.epoch,
    lane: 'readings',
    batch: 1,
    kind: 'data',
    first_seq: 1,
    last_seq: 4,
    predecessor: null,
    digest: Buffer.from(batch.digest).toString('hex'),
    records: 4,
    stored: 4,
    touched:
      '{["2026-01-15 00:00:00+00","2026-01-15 00:00:00.000001+00"],["2026-01-15 02:00:00+00","2026-01-15 02:00:00+00"]}'
  })
  t.same(await bench.sql('SELECT batches, records, stored, last_batch, dense_batch, last_seq FROM ingest_lanes'), [
    { batches: 1, records: 4, stored: 4, last_batch: 1, dense_batch: 1, last_seq: 4 }
  ])
  t.same(await bench.sql('SELECT gateway_id, epoch, alarm FROM gateways'), [
    { gateway_id: 'hall-a', epoch: chain.epoch, alarm: null }
  ])
})

t.test('a batch that arrives twice is stored once, and answered with the stored result', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const chain = createChain('g')
  const batch = chain.readings(ramp(20), [{ detail: 'not JSON' }])
  const first = { ...committed, stored: 20, deadLetters: 1 }
  t.same(await writer.write([batch.arrived]), [first])
  t.same(await writer.write([batch.arrived]), [{ ...first, result: 'replay' }])
  const other = chain.readings(ramp(5, { fromUs: BASE_US + DAY_US / 2 }))
  t.same(await writer.write([other.arrived, other.arrived]), [
    { ...committed, stored: 5 },
    { ...committed, stored: 5, result: 'replay' }
  ])
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 25 }])
  t.same(await bench.sql('SELECT count(*) FROM dead_letters'), [{ count: 1 }])
  t.same(await unbalanced(bench), [])
})

t.test('batches that come in any order are stored, and the lane is dense when the holes are filled', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const chain = createChain('g')
  const [b1, b2, b3, b4, b5] = Array.from({ length: 5 }, (_, index) =>
    chain.readings(ramp(10, { fromUs: BASE_US + index * 60_000_000 }))
  )
  if (!b1 || !b2 || !b3 || !b4 || !b5) throw new Error('five batches were sealed')
  const dense = async () =>
    (await bench.sql<{ dense_batch: number }>('SELECT dense_batch FROM ingest_lanes'))[0]?.dense_batch
  await writer.write([b2.arrived])
  t.equal(await dense(), 0)
  await writer.write([b5.arrived, b4.arrived])
  t.equal(await dense(), 0)
  await writer.write([b1.arrived])
  t.equal(await dense(), 2)
  await writer.write([b3.arrived])
  t.equal(await dense(), 5)
  t.same(await unbalanced(bench), [])
})

t.test('two writers with the same batches in opposite orders store each once and do not deadlock', async (t) => {
  const bench = await openIngest(t)
  const writers = [bench.writer(), bench.writer()]
  const chains = ['g1', 'g2', 'g3'].map((gateway) => createChain(gateway))
  const batches = Array.from({ length: 90 }, (_, index) => {
    const chain = chains[index % 3]
    if (chain === undefined) throw new Error('three chains')
    return chain.readings(ramp(100, { prefix: chain.gateway, fromUs: BASE_US + index * 1_000_000, sensors: 20 }))
  })
  const [forward, backward] = await Promise.all(
    writers.map((writer, index) => writeAll(writer, index === 0 ? batches : batches.toReversed()))
  )
  const outcomes = (backward ?? []).toReversed()
  for (const [index, outcome] of (forward ?? []).entries()) {
    t.same([outcome.result, outcomes[index]?.result].sort(), ['committed', 'replay'])
    t.same([outcome.stored, outcome.duplicates], [outcomes[index]?.stored, outcomes[index]?.duplicates])
  }
  const [sums] = await bench.sql(`
    SELECT count(*) AS rows, (SELECT sum(stored) FROM ingest_lanes)::bigint AS distinct FROM sensor_readings`)
  t.equal(sums?.rows, sums?.distinct)
  t.same(await bench.sql('SELECT dense_batch FROM ingest_lanes'), [
    { dense_batch: 30 },
    { dense_batch: 30 },
    { dense_batch: 30 }
  ])
  t.same(await unbalanced(bench), [])
})

t.test('a batch with another digest is refused and raises the alarm', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const original = createChain('g').readings(ramp(3))
  const clone = createChain('g').readings(ramp(4))
  await writer.write([original.arrived])
  t.match(await writer.write([clone.arrived]), [{ result: 'refused', reason: 'fork', stored: 0 }])
  t.match(await bench.sql('SELECT alarm, alarm_at FROM gateways'), [
    { alarm: /batch 1 .* another digest/, alarm_at: Date }
  ])
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 3 }])
  t.same(await unbalanced(bench), [])
})

t.test('a reading that is there already is a duplicate, the others are stored', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const readings = ramp(50)
  await writer.write([createChain('g', epochOf('one')).readings(readings).arrived])
  const again = createChain('g', epochOf('two')).readings([
    ...readings.slice(40),
    ...ramp(10, { fromUs: BASE_US + DAY_US / 2 })
  ])
  t.same(await writer.write([again.arrived]), [{ ...committed, stored: 10, duplicates: 10 }])
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 60 }])
  t.same(await unbalanced(bench), [])
})

t.test('a refused record that comes again in another epoch is still one dead letter', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const reading = { sensor: 's', timestampUs: BASE_US, value: 'a\0b', receivedUs: BASE_US + 9 }
  const first = createChain('g', epochOf('one')).readings([reading])
  const sealedAgain = createChain('g', epochOf('two')).readings([reading])
  t.same(await writer.write([first.arrived]), [{ ...committed, stored: 0, deadLetters: 1 }])
  t.same(await writer.write([sealedAgain.arrived]), [{ ...committed, stored: 0, duplicates: 1 }])
  t.same(await bench.sql('SELECT count(*) FROM dead_letters'), [{ count: 1 }])
  t.same(await unbalanced(bench), [])
})

t.test('another value for the same sensor and time is a dead letter with both in it, once', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const at = BASE_US + 5
  await writer.write([
    createChain('g', epochOf('one')).readings([{ sensor: 's', timestampUs: at, value: 1.5 }]).arrived
  ])
  const batch = createChain('g', epochOf('two')).readings(
    [
      { sensor: 's', timestampUs: at + 1, value: 3 },
      { sensor: 's', timestampUs: at, value: 2.5, receivedUs: BASE_US + 9 }
    ],
    [{ position: 0 }]
  )
  t.same(await writer.write([batch.arrived]), [{ ...committed, stored: 1, deadLetters: 2 }])
  const [letter] = await bench.sql(`
    SELECT id, source, reason, detail, batch, seq, convert_from(payload, 'UTF8')::jsonb AS record FROM dead_letters WHERE source = 'bridge'`)
  t.match(letter, {
    id: /^g\/[0-9a-f]{64}$/,
    reason: 'conflict',
    detail: /1\.5/,
    batch: 1,
    seq: 3,
    record: { sensor_id: 's', value: 2.5, timestamp_us: at, received_us: BASE_US + 9 }
  })
  t.same(
    await bench.sql('SELECT value FROM sensor_readings WHERE timestamp = $1', [
      new Date(BASE_MS).toISOString().replace('.000Z', '.000005Z')
    ]),
    [{ value: 1.5 }]
  )
  t.same(await unbalanced(bench), [])
})

t.test('of two readings with one key in one transaction the first said is stored', async (t) => {
  const bench = await openIngest(t)
  const batch = createChain('g').readings([
    { sensor: 's', timestampUs: BASE_US, value: 1 },
    { sensor: 's', timestampUs: BASE_US, value: 2 },
    { sensor: 's', timestampUs: BASE_US, value: 1 }
  ])
  t.same(await bench.writer().write([batch.arrived]), [{ ...committed, stored: 1, duplicates: 1, deadLetters: 1 }])
  t.same(await bench.sql('SELECT value FROM sensor_readings'), [{ value: 1 }])
})

t.test('bad rows are dead letters and the good ones of the same transaction are stored', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  await writer.write([createChain('owner').readings([{ sensor: 'theirs', timestampUs: BASE_US }]).arrived])
  await bench.sql(`ALTER TABLE sensor_readings ADD CONSTRAINT sane CHECK (value <> 666)`)
  const long = 'x'.repeat(3_000)
  const readings: TestReading[] = [
    ...ramp(500),
    { sensor: 's0', timestampUs: BASE_US + 3_600_000_000, value: 'a\0b' },
    { sensor: 's0', timestampUs: (NOW_MS + 2 * 86_400_000) * 1_000 },
    { sensor: 's0', timestampUs: BASE_US - 181 * DAY_US },
    { sensor: 's0', timestampUs: Date.UTC(1700, 0, 1) * 1_000 },
    { sensor: long, timestampUs: BASE_US },
    { sensor: 'nul\0', timestampUs: BASE_US },
    { sensor: 'theirs', timestampUs: BASE_US + 1 },
    { sensor: 's0', timestampUs: BASE_US + 3_600_000_001, value: 666 },
    { sensor: 's1', timestampUs: BASE_US + 3_600_000_001, value: 666 }
  ]
  const chain = createChain('g')
  const good = chain.readings(ramp(100, { fromUs: BASE_US + DAY_US / 2 }))
  const bad = chain.readings(readings)
  t.same(await writer.write([good.arrived, bad.arrived]), [
    { ...committed, stored: 100 },
    { ...committed, stored: 500, deadLetters: 9 }
  ])
  const letters = await bench.sql(
    'SELECT reason, sqlstate, count(*) FROM dead_letters GROUP BY reason, sqlstate ORDER BY reason, sqlstate'
  )
  t.same(letters, [
    { reason: 'foreign_sensor', sqlstate: null, count: 1 },
    { reason: 'refused_by_database', sqlstate: '22021', count: 1 },
    { reason: 'refused_by_database', sqlstate: '23514', count: 2 },
    { reason: 'sensor_refused', sqlstate: '22021', count: 1 },
    { reason: 'sensor_refused', sqlstate: null, count: 1 },
    { reason: 'time_out_of_range', sqlstate: null, count: 3 }
  ])
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 601 }])
  t.same(await unbalanced(bench), [])
})

t.test('a sensor marked as shared takes readings from other gateways', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer({ ownerTtlMs: 0 })
  await writer.write([createChain('owner').readings([{ sensor: 's', timestampUs: BASE_US }]).arrived])
  const other = createChain('other')
  t.match(await writer.write([other.readings([{ sensor: 's', timestampUs: BASE_US + 1 }]).arrived]), [
    { stored: 0, deadLetters: 1 }
  ])
  await bench.sql(`UPDATE sensors SET shared = true`)
  t.match(await writer.write([other.readings([{ sensor: 's', timestampUs: BASE_US + 2 }]).arrived]), [
    { stored: 1, deadLetters: 0 }
  ])
})

t.test('rejects of the edge become dead letters once, with what came in', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const reject = {
    id: '4f0c1d2e-0000-4000-8000-000000000001',
    reason: 'value_unreadable' as const,
    detail: 'bad \0 value',
    topic: 'plant/\0/x',
    payload: Buffer.from([0, 255, 1]),
    payloadBytes: 70_000,
    payloadSha256: 'ab'
  }
  const first = createChain('g', epochOf('one')).readings(ramp(2), [reject])
  t.match(await writer.write([first.arrived]), [{ stored: 2, duplicates: 0, deadLetters: 1 }])
  const second = createChain('g', epochOf('two')).readings(
    [],
    [reject, { ...reject, id: 'not-a-uuid' }, { ...reject, id: 'not-a-uuid' }]
  )
  t.match(await writer.write([second.arrived]), [{ stored: 0, duplicates: 2, deadLetters: 1 }])
  const letters = await bench.sql(
    'SELECT id, source, reason, detail, topic, payload, payload_bytes, payload_sha256, seq FROM dead_letters ORDER BY id'
  )
  t.match(letters, [
    {
      id: reject.id,
      source: 'edge',
      reason: 'value_unreadable',
      detail: 'bad \ufffd value',
      topic: 'plant/\ufffd/x',
      payload: reject.payload,
      payload_bytes: 70_000,
      payload_sha256: 'ab',
      seq: 3
    },
    { id: 'g/not-a-uuid' }
  ])
  t.same(await unbalanced(bench), [])
})

t.test('a content that cannot be opened is one dead letter with its bytes and a ledger row', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const chain = createChain('g')
  const garbage = chain.readings(ramp(7))
  const good = chain.readings(ramp(3, { fromUs: BASE_US + 1 }))
  const arrived = withContent(garbage, Buffer.from('garbage'))
  t.same(await writer.write([arrived, good.arrived]), [
    { ...committed, deadLetters: 7 },
    { ...committed, stored: 3 }
  ])
  t.same(await writer.write([arrived]), [{ ...committed, result: 'replay', deadLetters: 7 }])
  t.match(await bench.sql(`SELECT kind, records, dead_lettered FROM ingest_batches ORDER BY batch`), [
    { kind: 'undecodable', records: 7, dead_lettered: 7 },
    { kind: 'data' }
  ])
  t.match(await bench.sql(`SELECT id, reason, payload FROM dead_letters`), [
    {
      id: `g/${Buffer.from(garbage.digest).toString('hex')}`,
      reason: 'batch_undecodable',
      payload: Buffer.from(garbage.wire)
    }
  ])
  t.same(await bench.sql('SELECT dense_batch FROM ingest_lanes'), [{ dense_batch: 2 }])
  t.same(await unbalanced(bench), [])
})

t.test('bytes that are no batch are one dead letter however often they come', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const rubbish: Arrived = { kind: 'unreadable', gateway: 'g', wire: Buffer.from('rubbish'), detail: 'not CBOR' }
  t.match(await writer.write([rubbish, rubbish]), [{ result: 'refused', reason: 'unreadable' }, { result: 'refused' }])
  t.match(await writer.write([rubbish]), [{ result: 'refused', reason: 'unreadable' }])
  t.match(await bench.sql('SELECT gateway_id, reason, payload FROM dead_letters'), [
    { gateway_id: 'g', reason: 'batch_unreadable', payload: Buffer.from('rubbish') }
  ])
})

t.test(
  'a tombstone is a ledger row and a gap, and answered with what was stored when the batch had arrived',
  async (t) => {
    const bench = await openIngest(t)
    const writer = bench.writer()
    const chain = createChain('g')
    const evicted = chain.readings(ramp(30))
    const stored = chain.readings(ramp(8, { fromUs: BASE_US + 9 }))
    const tombstone = chain.tombstone(evicted, { sensors: ['a\0b'] })
    t.same(await writer.write([tombstone.arrived, stored.arrived]), [committed, { ...committed, stored: 8 }])
    t.same(await writer.write([tombstone.arrived, chain.tombstone(stored).arrived]), [
      { ...committed, result: 'replay' },
      { ...committed, result: 'replay', stored: 8 }
    ])
    t.match(await bench.sql(`SELECT kind, digest, evicted FROM ingest_batches ORDER BY batch`), [
      { kind: 'tombstone', digest: Buffer.from(evicted.digest), evicted: 30 },
      { kind: 'data', evicted: 0 }
    ])
    t.match(await bench.sql('SELECT batch, first_seq, last_seq, records, sensors FROM data_gaps'), [
      { batch: 1, first_seq: 1, last_seq: 30, records: 30, sensors: ['a\ufffdb'] }
    ])
    t.same(await bench.sql('SELECT dense_batch FROM ingest_lanes'), [{ dense_batch: 2 }])
    t.same(await unbalanced(bench), [])
  }
)

t.test('readings of many weeks find their partitions, also one that was dropped meanwhile', async (t) => {
  const bench = await openIngest(t)
  if (bench.engine.kind === 'timescale') return t.pass('hypertables make their chunks themselves')
  const writer = bench.writer()
  const chain = createChain('g')
  const weeks = (offsetUs: number) =>
    Array.from({ length: 20 }, (_, week) => ({ sensor: 's', timestampUs: BASE_US - week * 7 * DAY_US + offsetUs }))
  t.match(await writer.write([chain.readings(weeks(0)).arrived]), [{ stored: 20 }])
  const [partition] = await bench.sql<{ name: string }>(
    `SELECT min(tableoid::regclass::text) AS name FROM sensor_readings`
  )
  await bench.sql(`DROP TABLE ${partition?.name}`)
  t.match(await writer.write([chain.readings(weeks(1)).arrived]), [{ stored: 20, deadLetters: 0 }])
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 39 }])
  t.same(await unbalanced(bench), [])
})

t.test('a closed writer refuses, and rejects what it has not stored', async (t) => {
  const bench = await openIngest(t)
  const session = await openSession(t, bench.url)
  await session.query('BEGIN; LOCK TABLE sensor_readings IN ACCESS EXCLUSIVE MODE')
  const writer = bench.writer()
  const chain = createChain('g')
  const batches = Array.from({ length: 3 }, (_, index) =>
    chain.readings(ramp(15_000, { fromUs: BASE_US + index * 1_000 }))
  )
  const results = Promise.allSettled(batches.map((batch) => writer.write([batch.arrived])))
  await waitFor('the first batch to wait for the lock', async () => {
    const [row] = await bench.sql<{ count: number }>(
      `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
    )
    return row !== undefined && row.count > 0
  })
  const closing = writer.close()
  await session.query('ROLLBACK')
  await closing
  const settled = await results
  t.same(
    settled.map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected']
  )
  await t.rejects(writer.write([createChain('h').readings(ramp(1)).arrived]), { code: 'closed' })
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 15_000 }])
})

t.test('when a sensor was last seen, and what is said of it later, is noted beside ingest', async (t) => {
  const bench = await openIngest(t)
  let nowMs = NOW_MS
  const writer = bench.writer({ now: () => nowMs, sightingsEveryMs: 10 })
  const chain = createChain('g')
  await writer.write([chain.readings(ramp(2, { sensors: 2 })).arrived])
  const untouched = `SELECT count(*) FROM sensors, ingest_batches WHERE sensors.xmin = ingest_batches.xmin`
  await waitFor('the first sightings to be written', async () => (await bench.sql(untouched))[0]?.['count'] === 0)
  const locker = await openSession(t, bench.url)
  await locker.query(`BEGIN; SELECT FROM sensors WHERE sensor_id = 's0' FOR UPDATE`)
  nowMs += 3_600_000
  const said = { timestampUs: BASE_US + 9, type: 'temperature', unit: '°C' }
  await writer.write([chain.readings(['s0', 's1'].map((sensor) => ({ ...said, sensor }))).arrived])
  const seen = `SELECT sensor_id, sensor_type, unit, last_seen FROM sensors ORDER BY sensor_id`
  await waitFor('the sensor that is free', async () => (await bench.sql(seen))[1]?.['unit'] === '°C')
  t.match(await bench.sql(seen), [
    { sensor_id: 's0', sensor_type: null, unit: null, last_seen: new Date(NOW_MS) },
    { sensor_id: 's1', sensor_type: 'temperature', unit: '°C', last_seen: new Date(nowMs) }
  ])
  await locker.query('ROLLBACK')
  const later = bench.writer({ now: () => nowMs, sightingsEveryMs: 3_600_000 })
  nowMs += 3_600_000
  await later.write([chain.readings([{ sensor: 's0', timestampUs: BASE_US + 10 }]).arrived])
  await later.close()
  t.match(await bench.sql(seen), [{ sensor_id: 's0', last_seen: new Date(nowMs) }, { unit: '°C' }])
})

t.test('an alarm is over when the gateway has gone on in another epoch and a day has passed', async (t) => {
  const bench = await openIngest(t)
  let nowMs = NOW_MS
  const writer = bench.writer({ now: () => nowMs })
  const alarm = async () => (await bench.sql('SELECT alarm, alarm_at, alarm_epoch FROM gateways'))[0]
  const chain = createChain('g', epochOf('one'))
  await writer.write([chain.readings(ramp(3)).arrived])
  await writer.write([createChain('g', epochOf('one')).readings(ramp(4)).arrived])
  t.match(await alarm(), { alarm: /another digest/, alarm_epoch: epochOf('one') })
  const next = createChain('g', epochOf('two'))
  nowMs += 23 * 3_600_000
  await writer.write([next.readings(ramp(5, { fromUs: BASE_US + 1 })).arrived])
  t.match(await alarm(), { alarm: /another digest/ })
  nowMs += 2 * 3_600_000
  await writer.write([chain.readings(ramp(5, { fromUs: BASE_US + 2 })).arrived])
  t.match(await alarm(), { alarm: /another digest/ })
  await writer.write([next.readings(ramp(5, { fromUs: BASE_US + 3 })).arrived])
  t.same(await alarm(), { alarm: null, alarm_at: null, alarm_epoch: null })
})

t.test('where readings are kept for ever, 1970 is the earliest that is taken', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer({ retentionDays: 0 })
  const batch = createChain('g').readings([
    { sensor: 's', timestampUs: -1 },
    { sensor: 's', timestampUs: 0 },
    { sensor: 's', timestampUs: Date.UTC(1999, 0, 1) * 1_000 }
  ])
  t.same(await writer.write([batch.arrived]), [{ ...committed, stored: 2, deadLetters: 1 }])
  t.match(await bench.sql('SELECT reason, detail FROM dead_letters'), [
    { reason: 'time_out_of_range', detail: '1969-12-31T23:59:59.999999Z is before 1970' }
  ])
})

t.test('keys that another session takes between look and COPY are duplicates, not lost and not doubled', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const readings = ramp(300)
  const theirs = createChain('g', epochOf('one'))
  await writer.write([theirs.readings(readings.slice(0, 10)).arrived])
  const mine = createChain('g', epochOf('two'))
  await writer.write([mine.readings(readings.slice(0, 20)).arrived])
  const session = await openSession(t, bench.url)
  await session.query('BEGIN')
  await session.query(`
    INSERT INTO sensor_readings (timestamp, sensor_id, value, quality, received_at)
    SELECT timestamp + INTERVAL '2 seconds', sensor_id, 5 + value, quality, received_at
    FROM sensor_readings WHERE sensor_id = 's3' ORDER BY timestamp LIMIT 1`)
  const outcome = writer.write([mine.readings(readings).arrived])
  await waitFor('the COPY to wait for the key', async () => {
    const [row] = await bench.sql<{ count: number }>(
      `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
    )
    return row !== undefined && row.count > 0
  })
  await session.query('COMMIT')
  const [result] = await outcome
  t.match(result, { result: 'committed', duplicates: 20 + 1, stored: 300 - 21, deadLetters: 0 })
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 300 }])
  t.same(await unbalanced(bench), [])
})
