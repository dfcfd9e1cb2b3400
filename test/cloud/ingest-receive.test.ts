// From the broker to the writer and back: answers only for what is committed, and nothing that arrives stops the line.
import { randomBytes } from 'node:crypto'
import { encode } from 'cborg'
import t from 'tap'
import { startReceiver } from '../../cloud/ingest/receive.ts'
import type { Receiver } from '../../cloud/ingest/receive.ts'
import type { Writer } from '../../cloud/ingest/write.ts'
import { ack } from '../../shared/ack.ts'
import type { Ack } from '../../shared/ack.ts'
import { digestOf, hexOf, NO_PREDECESSOR, openEnvelope, sealBatch } from '../../shared/batch/envelope.ts'
import { silentLog } from '../../shared/log.ts'
import { openConnection } from '../../shared/mqtt/connection.ts'
import { filterOf, topicOf } from '../../shared/topics.ts'
import { startAedes } from '../helpers/aedes-broker.ts'
import type { AedesBroker } from '../helpers/aedes-broker.ts'
import { BASE_US, createChain, epochOf, ramp } from '../helpers/batches.ts'
import { openIngest, openSession, unbalanced } from '../helpers/ingest.ts'
import { skipWithoutMosquitto, startMosquitto } from '../helpers/mosquitto.ts'
import { waitFor } from '../helpers/wait-for.ts'

type Test = { teardown(done: () => Promise<void> | void): void }
type Edge = {
  acks: { gateway: string; ack: Ack }[]
  send(gateway: string, wire: Uint8Array, options?: { qos?: 0 | 1; retain?: boolean }): Promise<void>
}

const log = silentLog()
const retry = { baseMs: 10, capMs: 50 }

function receive(
  t: Test,
  url: string,
  writer: Writer,
  options: { maxHeldBatches?: number; clientId?: string } = {}
): Receiver {
  const receiver = startReceiver({ url, clientId: 'bridge', writer, log, retry, ...options })
  t.teardown(() => receiver.close())
  return receiver
}

async function openEdge(t: Test, url: string): Promise<Edge> {
  const acks: Edge['acks'] = []
  const connection = openConnection({
    url,
    clientId: 'edge',
    clean: true,
    receiveMaximum: 100,
    subscriptions: [{ filter: filterOf('ack'), qos: 1 }],
    retry,
    onDelivery(delivery, done) {
      acks.push({
        gateway: delivery.topic.split('/')[2] ?? '',
        ack: ack.parse(JSON.parse(Buffer.from(delivery.payload).toString()))
      })
      done(null)
    },
    log
  })
  t.teardown(() => connection.close())
  await waitFor('the edge to be subscribed', () => {
    const state = connection.state()
    return state.phase === 'connected' && state.subscribed
  })
  return {
    acks,
    send: (gateway, wire, { qos = 1, retain = false } = {}) =>
      connection.publish(topicOf(gateway, 'batch'), wire, { qos, retain })
  }
}

async function subscribed(receiver: Receiver): Promise<void> {
  await waitFor('the receiver to be subscribed', () => {
    const { connection } = receiver.state()
    return connection.phase === 'connected' && connection.subscribed && connection.refusedFilters.length === 0
  })
}

t.test('a batch is answered with what became of it, again when it comes again', async (t) => {
  const bench = await openIngest(t)
  const broker = await startAedes(t)
  const receiver = receive(t, broker.url, bench.writer())
  await subscribed(receiver)
  t.equal(receiver.state().shared, false, 'aedes has no shared subscriptions')
  const edge = await openEdge(t, broker.url)
  const batch = createChain('hall-a').readings(ramp(30), [{}])
  await edge.send('hall-a', batch.wire)
  await edge.send('hall-a', batch.wire, { qos: 0 })
  await waitFor('two answers', () => edge.acks.length === 2)
  const expected = {
    reason: null,
    epoch: epochOf('hall-a'),
    lane: 'readings',
    batch: 1,
    first_seq: 1,
    last_seq: 31,
    digest: hexOf(batch.digest),
    stored: 30,
    duplicates: 0,
    dead_letters: 1
  }
  t.same(
    edge.acks.map(({ gateway }) => gateway),
    ['hall-a', 'hall-a']
  )
  t.same(
    edge.acks.map((answer) => answer.ack).sort((a, b) => a.result.localeCompare(b.result)),
    [
      { ...expected, result: 'committed' },
      { ...expected, result: 'replay' }
    ]
  )
  t.match(receiver.state().counts, { received: 2, unacknowledged: 1, answersLost: 0 })
})

t.test('rubbish is refused, counted and kept, and the batches among it are stored', async (t) => {
  const bench = await openIngest(t)
  const broker = await startAedes(t)
  const receiver = receive(t, broker.url, bench.writer())
  await subscribed(receiver)
  const edge = await openEdge(t, broker.url)
  const chain = createChain('g')
  const rubbish = randomBytes(2_000)
  const truncated = chain.readings(ramp(10)).wire.subarray(0, 90)
  const changed = chain.readings(ramp(10, { fromUs: BASE_US + 1 }))
  const flipped = Uint8Array.from(changed.wire)
  flipped[flipped.length - 1] = (flipped[flipped.length - 1] ?? 0) ^ 1
  const version = encode([9, randomBytes(32), randomBytes(32), 'what else'])
  const million = forged({ records: 1_000_000, lastSeq: 1_000_000 })
  const bomb = forged(
    { records: 10, lastSeq: 10, bodyBytes: 10 },
    sealBatch(headerOf(20_000), tombstoneOf(20_000), NO_PREDECESSOR).wire
  )
  const foreign = createChain('other').readings(ramp(5))
  for (const wire of [rubbish, truncated, flipped, version, million, bomb, foreign.wire]) await edge.send('g', wire)
  await edge.send('g', new Uint8Array(0))
  const good = createChain('g', epochOf('good')).readings(ramp(20))
  await edge.send('g', good.wire)
  await waitFor('an answer to each', () => edge.acks.length === 9)
  const results = edge.acks.map(({ ack: { result, reason } }) => `${result} ${reason}`).sort()
  t.same(results, [
    'committed null',
    'committed null',
    'refused unreadable',
    'refused unreadable',
    'refused unreadable',
    'refused unreadable',
    'refused wrong_digest',
    'refused wrong_gateway',
    'unsupported_version null'
  ])
  t.match(
    edge.acks.find(({ ack: { reason } }) => reason === 'wrong_digest'),
    { gateway: 'g', ack: { digest: hexOf(changed.digest) } }
  )
  t.match(
    edge.acks.find(({ ack: { reason } }) => reason === 'wrong_gateway'),
    { gateway: 'g', ack: { digest: hexOf(foreign.digest) } }
  )
  t.match(receiver.state().counts, { wrongDigest: 1, wrongGateway: 1, unsupportedVersion: 1, unreadable: 4 })
  t.same(await bench.sql('SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason'), [
    { reason: 'batch_undecodable', count: 1 },
    { reason: 'batch_unreadable', count: 4 }
  ])
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 20 }])
  t.same(await unbalanced(bench), [])
})

t.test(
  'while the database takes nothing, batches wait unacknowledged and bounded, and are stored afterwards',
  async (t) => {
    const bench = await openIngest(t)
    const broker = await startAedes(t)
    const writer = bench.writer()
    const receiver = receive(t, broker.url, writer, { maxHeldBatches: 8 })
    await subscribed(receiver)
    const locker = await openSession(t, bench.url)
    await locker.query('BEGIN; LOCK TABLE ingest_batches IN ACCESS EXCLUSIVE MODE')
    const edge = await openEdge(t, broker.url)
    const chain = createChain('g')
    const batches = Array.from({ length: 40 }, (_, index) => chain.readings(ramp(50, { fromUs: BASE_US + index })))
    const sent = Promise.all(batches.map((batch) => edge.send('g', batch.wire)))
    await waitFor('the hand to be full', () => receiver.state().held === 8)
    t.equal(writer.state().waiting, 8)
    t.equal(edge.acks.length, 0)
    await locker.query('ROLLBACK')
    await sent
    await waitFor('all answers', () => edge.acks.length === 40)
    t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 2_000 }])
    t.equal(receiver.state().held, 0)
  }
)

t.test('a broker that is cut off again and again loses no batch and doubles none', async (t) => {
  const bench = await openIngest(t)
  const broker: AedesBroker = await startAedes(t)
  const receiver = receive(t, broker.url, bench.writer())
  await subscribed(receiver)
  const edge = await openEdge(t, broker.url)
  const chain = createChain('g')
  const batches = Array.from({ length: 60 }, (_, index) => chain.readings(ramp(40, { fromUs: BASE_US + index })))
  const open = new Map(batches.map((batch) => [batch.header.batch, batch]))
  let rounds = 0
  await waitFor('every batch to be answered', async () => {
    if (rounds++ % 5 === 0 && rounds < 30) broker.cut()
    await Promise.allSettled([...open.values()].slice(0, 10).map((batch) => edge.send('g', batch.wire)))
    for (const { ack: answer } of edge.acks) if (answer.batch !== null) open.delete(answer.batch)
    return open.size === 0
  })
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 2_400 }])
  t.same(await bench.sql('SELECT dense_batch FROM ingest_lanes'), [{ dense_batch: 60 }])
  t.same(await unbalanced(bench), [])
})

t.test(
  'two bridges on a broker with shared subscriptions split the batches',
  { skip: skipWithoutMosquitto },
  async (t) => {
    const bench = await openIngest(t)
    const broker = await startMosquitto(t)
    const receivers = ['one', 'two'].map((clientId) => receive(t, broker.url, bench.writer(), { clientId }))
    for (const receiver of receivers) await subscribed(receiver)
    t.same(
      receivers.map((receiver) => receiver.state().shared),
      [true, true]
    )
    const edge = await openEdge(t, broker.url)
    const chain = createChain('g')
    const batches = Array.from({ length: 40 }, (_, index) => chain.readings(ramp(40, { fromUs: BASE_US + index })))
    await Promise.all(batches.map((batch) => edge.send('g', batch.wire)))
    await waitFor('all answers', () => edge.acks.length === 40)
    t.same(
      edge.acks.map(({ ack: { result } }) => result),
      Array.from({ length: 40 }, () => 'committed')
    )
    const shares = receivers.map((receiver) => receiver.state().counts.received)
    t.ok(
      shares.every((share) => share > 0),
      `shares ${shares}`
    )
    t.equal(
      shares.reduce((sum, share) => sum + share),
      40
    )
  }
)

function headerOf(records: number) {
  return {
    gateway: 'g',
    epoch: epochOf('forged'),
    lane: 'readings' as const,
    batch: 1,
    firstSeq: 1,
    lastSeq: records,
    records
  }
}

/** A body that is large and compresses to almost nothing. */
function tombstoneOf(records: number) {
  const tombstone = {
    id: 'x',
    digest: '0'.repeat(64),
    records,
    sensors: ['a'.repeat(3_000_000)],
    fromUs: null,
    toUs: null
  }
  return { kind: 'tombstone' as const, tombstone }
}

/** A batch with a header that says what it likes, and a digest that fits. */
function forged(header: Record<string, unknown>, from?: Uint8Array): Uint8Array {
  const content = from === undefined ? Buffer.from('x') : openEnvelope(from).content
  const headerBytes = encode({ ...headerOf(1), kind: 'data', bodyBytes: 1, ...header })
  return encode([1, digestOf(NO_PREDECESSOR, headerBytes, content), NO_PREDECESSOR, headerBytes, content])
}
