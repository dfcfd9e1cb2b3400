// What the edge's broker keeps for subscribers is bounded, and what is within the bounds is kept.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import mqtt from 'mqtt'
import type { IClientOptions, MqttClient } from 'mqtt'
import t from 'tap'
import type { Test } from 'tap'
import { createPersistence } from '../../edge/doors/broker-memory.ts'
import type { MemoryLimits } from '../../edge/doors/broker-memory.ts'
import { silentLog } from '../../shared/log.ts'
import { connectSensor, startTestEdge } from '../helpers/edge.ts'
import { waitFor } from '../helpers/wait-for.ts'

const WIDE: MemoryLimits = { maxQueued: 100, maxQueuedBytes: 1e6, maxRetained: 100, maxRetainedBytes: 1e6 }

async function startBroker(t: Test, limits: Partial<MemoryLimits>): Promise<string> {
  const packets = { has: () => false, release: async () => undefined, forget: async () => undefined }
  const persistence = createPersistence({ packets, log: silentLog(), limits: { ...WIDE, ...limits } })
  const broker = new Aedes({ persistence })
  await broker.listen()
  const server = createServer((socket) => broker.handle(socket))
  const port = await new Promise<number>((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })
  t.teardown(async () => {
    await new Promise<void>((resolve) => broker.close(() => resolve()))
    await new Promise<void>((resolve) => server.close(() => resolve()))
  })
  return `mqtt://127.0.0.1:${port}`
}

/** A client that notes what it receives, from the first packet on. */
async function connect(
  t: Test,
  url: string,
  options: IClientOptions = {}
): Promise<{ client: MqttClient; received: string[] }> {
  const received: string[] = []
  const client = mqtt.connect(url, { reconnectPeriod: 0, ...options })
  client.on('message', (_topic, payload) => received.push(payload.toString()))
  t.teardown(() => client.endAsync(true))
  await waitFor('the connection', () => client.connected)
  return { client, received }
}

/** A subscriber with a session, gone again. */
async function subscribeAndLeave(t: Test, url: string, qos: 1 | 2): Promise<IClientOptions> {
  const session = { clientId: `panel-${qos}`, clean: false }
  const { client } = await connect(t, url, session)
  await client.subscribeAsync(['plant/#', 'end'], { qos })
  await client.endAsync()
  return session
}

for (const qos of [1, 2] as const) {
  t.test(`QoS ${qos} messages for a subscriber that is away are kept up to the limit`, async (t) => {
    const url = await startBroker(t, { maxQueued: 5 })
    const session = await subscribeAndLeave(t, url, qos)
    const { client: sensor } = await connect(t, url)
    for (let n = 0; n < 12; n++) await sensor.publishAsync('plant/a', `${n}`, { qos })
    const { received } = await connect(t, url, session)
    await waitFor('what was kept', () => received.length >= 5)
    await sensor.publishAsync('end', 'end', { qos })
    await waitFor('the end', () => received.includes('end'))
    t.same(received, ['0', '1', '2', '3', '4', 'end'])
  })
}

t.test('what waits for all subscribers is bounded in bytes, and room that is freed is used again', async (t) => {
  const url = await startBroker(t, { maxQueuedBytes: 4_000 })
  const session = await subscribeAndLeave(t, url, 2)
  const { client: sensor } = await connect(t, url)
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 12; n++) await sensor.publishAsync('plant/a', 'x'.repeat(1_000), { qos: 2 })
    const { client, received } = await connect(t, url, session)
    await waitFor('what was kept', () => received.length >= 3)
    await sensor.publishAsync('end', 'end', { qos: 1 })
    await waitFor('the end', () => received.includes('end'))
    t.equal(received.length, 4)
    await client.endAsync()
  }
})

t.test('a subscriber that is there receives also what can not be kept', async (t) => {
  const url = await startBroker(t, { maxQueued: 0 })
  const { client, received } = await connect(t, url, { clientId: 'panel', clean: false })
  await client.subscribeAsync('plant/#', { qos: 2 })
  const { client: sensor } = await connect(t, url)
  for (let n = 0; n < 20; n++) await sensor.publishAsync('plant/a', `${n}`, { qos: n % 2 === 0 ? 1 : 2 })
  await waitFor('all', () => received.length === 20)
  t.ok(client.connected)
})

t.test('retained are so many topics and bytes, and never an outdated value', async (t) => {
  const url = await startBroker(t, { maxRetained: 3, maxRetainedBytes: 3_000 })
  const { client: sensor } = await connect(t, url)
  const retain = (topic: string, payload: string) => sensor.publishAsync(topic, payload, { qos: 1, retain: true })
  const retained = async () => {
    const { client, received } = await connect(t, url)
    await client.subscribeAsync(['plant/#', 'end'], { qos: 1 })
    await sensor.publishAsync('end', 'end', { qos: 1 })
    await waitFor('the end', () => received.includes('end'))
    await client.endAsync()
    return received.filter((payload) => payload !== 'end').sort()
  }
  for (const name of ['a', 'b', 'c', 'd']) await retain(`plant/${name}`, name)
  t.same(await retained(), ['a', 'b', 'c'])
  await retain('plant/a', '')
  await retain('plant/d', 'd')
  await retain('plant/b', 'b2')
  t.same(await retained(), ['b2', 'c', 'd'], 'room that is freed is used again')
  await retain('plant/b', 'x'.repeat(3_000))
  t.same(await retained(), ['c', 'd'], 'a value that does not fit removes the one before')
})

t.test('the edge stores what it keeps for no subscriber', async (t) => {
  const edge = await startTestEdge(t)
  const session = await subscribeAndLeave(t, edge.brokerUrl, 1)
  const sensor = await connectSensor(t, edge.brokerUrl)
  await Promise.all(Array.from({ length: 1_100 }, (_, n) => sensor.publishAsync('plant/a', `${n}`, { qos: 1 })))
  await edge.when('all are stored', ({ backlog }) => backlog?.records === 1_100)
  const { received } = await connect(t, edge.brokerUrl, session)
  await waitFor('what was kept', () => received.length >= 1_000)
  await sensor.publishAsync('end', 'end', { qos: 1 })
  await waitFor('the end', () => received.includes('end'))
  t.equal(received.length, 1_001)
})
