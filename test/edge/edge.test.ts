import { randomBytes } from 'node:crypto'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { hexOf } from '../../shared/batch/envelope.ts'
import { startAedes } from '../helpers/aedes-broker.ts'
import {
  ackOf,
  connectRaw,
  connectSensor,
  dataFolder,
  NO_CLOUD,
  startFakeBridge,
  startTestEdge
} from '../helpers/edge.ts'
import { waitFor } from '../helpers/wait-for.ts'

const ACCEPTED_1 = { received: 1, accepted: 1 }

t.test('a QoS 1 publish is acknowledged with the group commit, not before', async (t) => {
  const edge = await startTestEdge(t, { commitWindowMs: 400 })
  const sensor = await connectSensor(t, edge.brokerUrl)
  const startMs = performance.now()
  const publishes = ['1', '2'].map((payload) => sensor.publishAsync('plant/a', payload, { qos: 1 }))
  await waitFor('both are taken', async () => (await edge.status()).intake.heldMessages === 2)
  t.equal((await edge.status()).sums.find(({ lane }) => lane === 'readings')?.accepted, 0)
  await Promise.all(publishes)
  t.ok(performance.now() - startMs >= 380)
  t.match(
    (await edge.status()).sums.find(({ lane }) => lane === 'readings'),
    { received: 2, accepted: 2 }
  )
})

t.test('a QoS 0 publish is stored', async (t) => {
  const edge = await startTestEdge(t)
  const sensor = await connectSensor(t, edge.brokerUrl)
  await sensor.publishAsync('plant/a', '1', { qos: 0 })
  await edge.when('it is stored', ({ backlog }) => backlog?.records === 1)
})

t.test('a QoS 2 publish', async (t) => {
  const publish = {
    cmd: 'publish' as const,
    topic: 'plant/a',
    payload: '21.5',
    qos: 2 as const,
    messageId: 7,
    dup: false,
    retain: false
  }

  t.test('is stored once, also when its packet id is sent again before PUBREL', async (t) => {
    const edge = await startTestEdge(t)
    const client = await connectRaw(t, edge.brokerPort ?? 0, 'press-7')
    client.send(publish)
    await client.next('pubrec')
    client.send({ ...publish, dup: true })
    await client.next('pubrec')
    client.send({ cmd: 'pubrel', messageId: 7 })
    await client.next('pubcomp')
    t.match(await readingSums(edge), ACCEPTED_1)
    client.send(publish)
    await client.next('pubrec')
    t.match(await readingSums(edge), { received: 2, accepted: 2 }, 'after PUBCOMP the id is a new message')
  })

  t.test('that comes again while the first is being stored is stored once', async (t) => {
    const edge = await startTestEdge(t, { commitWindowMs: 100 })
    const client = await connectRaw(t, edge.brokerPort ?? 0, 'press-7')
    client.send(publish)
    client.send({ ...publish, dup: true })
    await client.next('pubrec')
    await client.next('pubrec')
    t.match(await readingSums(edge), ACCEPTED_1)
  })

  t.test('is stored once across a restart between PUBREC and PUBREL', async (t) => {
    const folder = dataFolder(t)
    const before = await startTestEdge(t, { dataFolder: folder })
    const client = await connectRaw(t, before.brokerPort ?? 0, 'press-7')
    client.send(publish)
    await client.next('pubrec')
    await before.close()

    const after = await startTestEdge(t, { dataFolder: folder })
    const again = await connectRaw(t, after.brokerPort ?? 0, 'press-7')
    again.send({ ...publish, dup: true })
    await again.next('pubrec')
    t.match(await readingSums(after), ACCEPTED_1)
    again.send({ cmd: 'pubrel', messageId: 7 })
    await again.next('pubcomp')
    again.send(publish)
    await again.next('pubrec')
    t.match(await readingSums(after), { received: 2, accepted: 2 })
  })

  t.test('whose PUBREL comes first after a restart is released', async (t) => {
    const folder = dataFolder(t)
    const before = await startTestEdge(t, { dataFolder: folder })
    const client = await connectRaw(t, before.brokerPort ?? 0, 'press-7')
    client.send(publish)
    await client.next('pubrec')
    await before.close()

    const after = await startTestEdge(t, { dataFolder: folder })
    const again = await connectRaw(t, after.brokerPort ?? 0, 'press-7')
    again.send({ cmd: 'pubrel', messageId: 7 })
    await again.next('pubcomp')
    again.send(publish)
    await again.next('pubrec')
    t.match(await readingSums(after), { received: 2, accepted: 2 })
  })
})

t.test('what arrives', async (t) => {
  const bridge = await startFakeBridge(t)
  const edge = await startTestEdge(t, { uplinkUrl: bridge.url, gatewayId: 'hall-1' })
  const sensor = await connectSensor(t, edge.brokerUrl)
  const at = '2026-03-01T10:00:00.000001Z'
  const atUs = Date.parse('2026-03-01T10:00:00Z') * 1_000 + 1
  await sensor.publishAsync('plant/a', JSON.stringify({ value: 1, timestamp: at }), { qos: 1 })
  await sensor.publishAsync('plant/a', JSON.stringify({ value: 1, timestamp: at }), { qos: 1 })
  await sensor.publishAsync('plant/a', JSON.stringify({ value: 2, timestamp: at }), { qos: 1 })
  await sensor.publishAsync('plant/b', Buffer.from([0xff, 0x00, 0x7b]), { qos: 1 })
  await sensor.publishAsync('plant/c', '5', { qos: 1, retain: true })
  const event = { event_id: 'e1', task: 'T-1', state: 'completed', timestamp: at }
  await sensor.publishAsync('plant/press/maintenance', JSON.stringify(event), { qos: 1 })
  const status = await edge.when(
    'all is acknowledged',
    ({ backlog, sums }) => backlog?.records === 0 && sums.every((of) => of.acknowledged > 0)
  )

  t.test('reaches the bridge bit for bit', (t) => {
    t.same(
      bridge.readings.find(({ sensor }) => sensor === 'plant/a'),
      { sensor: 'plant/a', timestampUs: atUs, value: 1, quality: 192 }
    )
    t.match(bridge.events, [{ id: 'e1', task: 'T-1', state: 'completed', topic: 'plant/press/maintenance' }])
    t.end()
  })
  t.test('twice is counted as a duplicate; another value for the same time is a reject', (t) => {
    t.equal(bridge.readings.filter(({ sensor }) => sensor === 'plant/a').length, 1)
    t.match(
      bridge.rejects.find(({ reason }) => reason === 'conflict'),
      { topic: 'plant/a', detail: /1; this one says 2/ }
    )
    t.end()
  })
  t.test('and can’t be read is a reject with its raw bytes', (t) => {
    const reject = bridge.rejects.find(({ reason }) => reason === 'payload_unreadable')
    t.equal(reject?.topic, 'plant/b')
    t.equal(Buffer.from(reject?.payload ?? '').toString('hex'), 'ff007b')
    t.end()
  })
  t.test('with the retain flag at the broker is live data', (t) => {
    t.equal(bridge.readings.filter(({ sensor }) => sensor === 'plant/c').length, 1)
    t.end()
  })
  t.test('is in sums that balance', (t) => {
    t.match(
      status.sums.find(({ lane }) => lane === 'readings'),
      {
        received: 5,
        duplicate: 1,
        accepted: 4,
        rejected: 2,
        pending: 0,
        acknowledged: 4,
        stored: 4
      }
    )
    t.match(
      status.sums.find(({ lane }) => lane === 'maintenance'),
      { received: 1, accepted: 1, acknowledged: 1, stored: 1 }
    )
    t.equal(status.balanced, true)
    t.end()
  })
})

t.test('topics of the system are no input', async (t) => {
  const edge = await startTestEdge(t)
  const sensor = await connectSensor(t, edge.brokerUrl, { reconnectPeriod: 0 })
  await sensor.publishAsync('millrace/v1/hall-1/batch', '1', { qos: 1 })
  const raw = await connectRaw(t, edge.brokerPort ?? 0, 'liar')
  raw.send({ cmd: 'publish', topic: '$SYS/uptime', payload: '1', qos: 1, messageId: 1, dup: false, retain: false })
  await waitFor('the liar is disconnected', () => raw.isClosed())
  await sensor.publishAsync('plant/a', '1', { qos: 1 })
  t.match(await readingSums(edge), ACCEPTED_1)
})

t.test('records leave only on an answer with the batch’s digest', async (t) => {
  const bridge = await startFakeBridge(t)
  bridge.hold()
  const edge = await startTestEdge(t, { uplinkUrl: bridge.url })
  const sensor = await connectSensor(t, edge.brokerUrl)
  await sensor.publishAsync('plant/a', '1', { qos: 1 })
  const envelope = await waitFor('the batch arrives', () => bridge.envelopes[0])
  const truth = ackOf(envelope, 'committed')
  const { gateway } = envelope.header
  bridge.answer(gateway, { ...truth, digest: 'ab'.repeat(32) })
  bridge.answer(gateway, { ...truth, batch: 2 })
  bridge.answer(gateway, { ...truth, stored: 2 })
  bridge.answer(gateway, { ...truth, epoch: '00'.repeat(16) })
  bridge.client.publish(`millrace/v1/${gateway}/ack`, 'no json', { qos: 1 })
  await edge.when('all five are seen', ({ uplink, buffer }) => uplink.strayAnswers >= 1 && buffer.ignoredAcks >= 4)
  t.match((await edge.status()).backlog, { records: 1 })
  bridge.answer(gateway, truth)
  const status = await edge.when('it is freed', ({ backlog }) => backlog?.records === 0)
  t.match(
    status.sums.find(({ lane }) => lane === 'readings'),
    { acknowledged: 1, stored: 1 }
  )
})

t.test('a fork at the ledger makes a new epoch, and all that waits is sent again in it', async (t) => {
  let foreign: string | null = null
  const bridge = await startFakeBridge(t, (envelope) => {
    foreign ??= envelope.header.epoch
    return envelope.header.epoch === foreign ? ackOf(envelope, 'refused', 'fork') : null
  })
  const edge = await startTestEdge(t, { uplinkUrl: bridge.url })
  const sensor = await connectSensor(t, edge.brokerUrl)
  const numbers = Array.from({ length: 50 }, (_, index) => index)
  await Promise.all(numbers.map((number) => sensor.publishAsync('plant/a', `${number}`, { qos: 1 })))
  await waitFor('all are with the bridge', () => bridge.readings.length >= numbers.length)
  const status = await edge.when('all are acknowledged', ({ backlog }) => backlog?.records === 0)
  t.same(
    bridge.readings.map(({ value }) => value).toSorted((a, b) => Number(a) - Number(b)),
    numbers
  )
  t.not(status.epoch, foreign)
  t.equal(status.balanced, true)
  t.equal(
    status.sums.reduce((sum, of) => sum + of.acknowledged, 0),
    numbers.length
  )
})

t.test('with no cloud the edge starts and collects; with one, what waited arrives; a restart keeps all', async (t) => {
  const folder = dataFolder(t)
  const alone = await startTestEdge(t, { dataFolder: folder, uplinkUrl: NO_CLOUD })
  const sensor = await connectSensor(t, alone.brokerUrl, { reconnectPeriod: 0 })
  const numbers = Array.from({ length: 300 }, (_, index) => index)
  await Promise.all(numbers.map((number) => sensor.publishAsync(`plant/${number % 7}`, `${number}`, { qos: 1 })))
  t.match(await alone.status(), { health: 'degraded', notReady: null, backlog: { records: 300 } })
  await alone.close()

  const bridge = await startFakeBridge(t)
  const again = await startTestEdge(t, { dataFolder: folder, uplinkUrl: bridge.url })
  t.equal(again.gateway, alone.gateway)
  const status = await again.when('all is acknowledged', ({ backlog }) => backlog?.records === 0)
  t.match(
    status.sums.find(({ lane }) => lane === 'readings'),
    { received: 300, accepted: 300, acknowledged: 300 }
  )
  t.same(
    bridge.readings.map(({ value }) => value),
    numbers
  )
})

t.test(
  'what a plant’s broker holds is taken through a source, and replayed retained values are filtered',
  async (t) => {
    const plant = await startAedes(t)
    const sensor = await connectSensor(t, plant.url)
    await sensor.publishAsync('plant/old', '1', { qos: 1, retain: true })
    const edge = await startTestEdge(t, { broker: null, sources: { urls: [plant.url], topics: ['plant/#'] } })
    await edge.when('the source is up', ({ doors }) => doors[0]?.state === 'up')
    await sensor.publishAsync('plant/a', '2', { qos: 1 })
    await sensor.publishAsync('elsewhere/a', '3', { qos: 1 })
    await sensor.publishAsync('plant/b', '4', { qos: 2 })
    await edge.when('all are taken', ({ sums }) => sums.some(({ received }) => received >= 3))
    t.match(await readingSums(edge), { received: 3, filtered: 1, accepted: 2 })
    t.equal(edge.brokerPort, null)
  }
)

t.test('a filter that is no longer configured is unsubscribed from the source’s session', async (t) => {
  const plant = await startAedes(t)
  const folder = dataFolder(t)
  const sensor = await connectSensor(t, plant.url)
  for (const topics of [['a/#', 'b/#'], ['b/#']]) {
    const edge = await startTestEdge(t, { dataFolder: folder, broker: null, sources: { urls: [plant.url], topics } })
    await edge.when('the source is up', ({ doors }) => doors[0]?.state === 'up')
    await edge.close()
  }
  await sensor.publishAsync('a/1', '1', { qos: 1 })
  await sensor.publishAsync('b/1', '1', { qos: 1 })
  const edge = await startTestEdge(t, {
    dataFolder: folder,
    broker: null,
    sources: { urls: [plant.url], topics: ['b/#'] }
  })
  await edge.when('what waited in the session is taken', ({ sums }) => sums.some(({ received }) => received > 0))
  t.match(await readingSums(edge), ACCEPTED_1)
  await waitFor('the former filter is forgotten', () => {
    return readFileSync(join(folder, 'source-filters.json'), 'utf8') === '{"0":["b/#"]}'
  })
})

t.test('a full buffer withholds PUBACKs, says so, and goes on when answers free room', async (t) => {
  const bridge = await startFakeBridge(t)
  bridge.hold()
  const edge = await startTestEdge(t, {
    uplinkUrl: bridge.url,
    buffer: { maxBytes: 16 * 2 ** 20, maxBatchBytes: 100_000, lingerMs: 0, dedupeWindowMs: 0, keepAckedMs: 0 }
  })
  const sensor = await connectSensor(t, edge.brokerUrl)
  let acknowledged = 0
  const publishes = Array.from({ length: 400 }, async () => {
    await sensor.publishAsync('plant/picture', randomBytes(60_000), { qos: 1 })
    acknowledged += 1
  })
  const full = await edge.when('it is full', ({ buffer }) => buffer.full, 30_000)
  t.equal(full.health, 'failing')
  t.match(full.notReady, /buffer is full: 0\.0\d of 0\.02 GiB.*raise EDGE_BUFFER_MAX_BYTES or reconnect the cloud/)
  const before = acknowledged
  t.ok(before < 400)
  t.equal((await edge.get('/health/ready')).status, 503)
  t.equal((await edge.get('/health')).status, 503)
  t.equal((await edge.get('/health/live')).status, 200)
  bridge.resume()
  await Promise.all(publishes)
  await edge.when('it is not full and drained', ({ buffer, backlog }) => !buffer.full && backlog?.records === 0, 30_000)
  t.equal((await edge.get('/health/ready')).status, 200)
  const digests = new Set(bridge.rejects.map(({ payload }) => Buffer.from(payload).toString('base64')))
  t.equal(digests.size, 400)
})

t.test('closing does not wait for a cloud that fell silent', async (t) => {
  const sockets: Socket[] = []
  const cloud = await startAedes(t, {
    guard(socket) {
      sockets.push(socket)
      return socket
    }
  })
  const edge = await startTestEdge(t, { uplinkUrl: cloud.url })
  await edge.when('the uplink is up', ({ uplink }) => uplink.state === 'up')
  for (const socket of sockets) socket.write = () => true
  const startMs = performance.now()
  await edge.close()
  t.ok(performance.now() - startMs < 5_000)
})

t.test('a second edge on the same data folder is refused and changes nothing', async (t) => {
  const edge = await startTestEdge(t, { gatewayId: 'hall-1' })
  await t.rejects(startTestEdge(t, { dataFolder: edge.settings.dataFolder, gatewayId: 'hall-2' }), {
    code: 'buffer_in_use',
    hint: /EDGE_DATA_DIR/
  })
  t.equal(readFileSync(join(edge.settings.dataFolder, 'gateway-id'), 'utf8'), 'hall-1\n')
})

t.test('a broken buffer file is set aside, and the edge collects', async (t) => {
  const folder = dataFolder(t)
  writeFileSync(join(folder, 'buffer.db'), randomBytes(10_000))
  const edge = await startTestEdge(t, { dataFolder: folder })
  const status = await edge.status()
  t.match(status, { health: 'degraded', notReady: null, buffer: { setAside: /buffer\.db\.broken-/ } })
  t.match(status.problems.join('\n'), /a broken buffer file was set aside/)
  t.equal(readdirSync(folder).filter((name) => name.startsWith('buffer.db.broken-')).length, 1)
  const sensor = await connectSensor(t, edge.brokerUrl)
  await sensor.publishAsync('plant/a', '1', { qos: 1 })
})

t.test('the gateway’s id', async (t) => {
  const folder = dataFolder(t)

  t.test('is generated once and kept', async (t) => {
    const edge = await startTestEdge(t, { dataFolder: folder })
    t.match(edge.gateway, /^edge-[0-9a-f]{8}$/)
    t.equal(readFileSync(join(folder, 'gateway-id'), 'utf8'), `${edge.gateway}\n`)
    const sensor = await connectSensor(t, edge.brokerUrl, { reconnectPeriod: 0 })
    const values = Array.from({ length: 20 }, (_, index) => index)
    await Promise.all(values.map((value) => sensor.publishAsync('plant/a', `${value}`, { qos: 1 })))
  })

  t.test('that is configured is taken, and what waits is sealed again under it', async (t) => {
    const bridge = await startFakeBridge(t)
    const edge = await startTestEdge(t, { dataFolder: folder, gatewayId: 'hall-2', uplinkUrl: bridge.url })
    t.equal(edge.gateway, 'hall-2')
    await edge.when('all is acknowledged', ({ backlog }) => backlog?.records === 0)
    t.equal(bridge.readings.length, 20)
    t.ok(bridge.envelopes.every(({ header }) => header.gateway === 'hall-2'))
    t.equal(readFileSync(join(folder, 'gateway-id'), 'utf8'), 'hall-2\n')
    const chain = bridge.envelopes.map(({ predecessor }) => hexOf(predecessor))
    t.equal(chain[0], '00'.repeat(32), 'a new chain')
  })

  t.test('that is no id in the file is refused with the way out', async (t) => {
    writeFileSync(join(folder, 'gateway-id'), 'Hall Two!')
    await t.rejects(startTestEdge(t, { dataFolder: folder }), {
      code: 'config_invalid',
      message: /Hall Two!/,
      hint: /delete it/
    })
  })
})

async function readingSums(edge: { status: Awaited<ReturnType<typeof startTestEdge>>['status'] }) {
  const { sums, epoch } = await edge.status()
  return sums.find((of) => of.lane === 'readings' && of.epoch === epoch)
}
