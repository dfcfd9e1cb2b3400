// The line over Mosquitto: the broker that a plant or a cloud already has, on both sides of the edge.
import { connectAsync } from 'mqtt'
import t from 'tap'
import { startTestBridge, whenReady } from '../../helpers/bridge.ts'
import { connectSensor, dataFolder, startTestEdge } from '../../helpers/edge.ts'
import { drained, openStore, readings, whenRows } from '../../helpers/line.ts'
import { skipWithoutMosquitto, startMosquitto } from '../../helpers/mosquitto.ts'

const skip = skipWithoutMosquitto

t.test(
  'what sensors publish to the plant’s broker is rows exactly once, also what came while the edge was away',
  { skip },
  async (t) => {
    const plant = await startMosquitto(t, { config: ['max_inflight_messages 1000', 'max_queued_messages 100000'] })
    const cloud = await startMosquitto(t, { config: ['max_inflight_messages 1000'] })
    const store = await openStore(t)
    const bridge = await startTestBridge(t, { databaseUrl: store.url, brokerUrl: cloud.url })
    await whenReady(bridge)
    const folder = dataFolder(t)
    const settings = {
      dataFolder: folder,
      gatewayId: 'plant-1',
      uplinkUrl: cloud.url,
      broker: null,
      sources: { urls: [plant.url], topics: ['plant/#'] }
    }
    const first = await startTestEdge(t, settings)
    await first.when('the source is up', ({ doors }) =>
      doors.some(({ name, state }) => name.startsWith('source') && state === 'up')
    )
    const sensor = await connectSensor(t, plant.url)
    const sent = readings(20, 150)
    const publish = (from: number, to: number) =>
      Promise.all(
        sent
          .slice(from, to)
          .map(({ topic, payload }, index) => sensor.publishAsync(topic, payload, { qos: index % 2 === 0 ? 1 : 2 }))
      )
    await publish(0, 1_000)
    await first.close()
    await publish(1_000, 2_000)
    const second = await startTestEdge(t, settings)
    await publish(2_000, 3_000)
    const rows = await whenRows(store, 3_000)
    t.equal(rows.length, 3_000)
    await drained(second)
    const sums = (await second.status()).sums.find(({ lane }) => lane === 'readings')
    t.match(sums, { accepted: 3_000, acknowledged: 3_000, pending: 0 })
  }
)

t.test(
  'what a broker repeats at subscribing is no new reading unless it has a time of its own',
  { skip },
  async (t) => {
    const plant = await startMosquitto(t)
    const sensor = await connectSensor(t, plant.url)
    await sensor.publishAsync('plant/a', '21.5', { qos: 1, retain: true })
    await sensor.publishAsync('plant/b', '{"value":3,"timestamp":1700000000000}', { qos: 1, retain: true })
    const edge = await startTestEdge(t, { broker: null, sources: { urls: [plant.url], topics: ['plant/#'] } })
    const status = await edge.when('both came', ({ sums }) => sums.some(({ received }) => received === 2))
    t.match(
      status.sums.find(({ lane }) => lane === 'readings'),
      { received: 2, filtered: 1, accepted: 1 }
    )
    await sensor.publishAsync('plant/a', '22', { qos: 1, retain: true })
    const live = await edge.when('the live one came', ({ sums }) => sums.some(({ received }) => received === 3))
    t.match(
      live.sums.find(({ lane }) => lane === 'readings'),
      { accepted: 2 },
      'a publish with the retain flag is live data'
    )
  }
)

t.test('replicas behind a shared subscription split the batches, and one that dies loses none', { skip }, async (t) => {
  const cloud = await startMosquitto(t, { config: ['max_inflight_messages 1000'] })
  const store = await openStore(t)
  const one = await startTestBridge(t, { databaseUrl: store.url, brokerUrl: cloud.url })
  const two = await startTestBridge(t, { databaseUrl: store.url, brokerUrl: cloud.url })
  await Promise.all([one, two].map(whenReady))
  const edge = await startTestEdge(t, { uplinkUrl: cloud.url })
  const sensor = await connectSensor(t, edge.brokerUrl)
  const sent = readings(10, 400)
  for (let from = 0; from < sent.length; from += 200) {
    await Promise.all(
      sent.slice(from, from + 200).map(({ topic, payload }) => sensor.publishAsync(topic, payload, { qos: 1 }))
    )
    if (from === 2_000) await one.close()
  }
  t.equal((await whenRows(store, sent.length, 40_000)).length, sent.length)
  await drained(edge, 40_000)
  const batches = [one, two].map((bridge) => bridge.report().ingest.batches.transactions)
  t.ok(
    batches.every((count) => count > 0),
    `both worked: ${batches.join(' and ')}`
  )
})

t.test('a broker that forgets all it had loses nothing', { skip }, async (t) => {
  const cloud = await startMosquitto(t)
  const store = await openStore(t)
  const bridge = await startTestBridge(t, { databaseUrl: store.url, brokerUrl: cloud.url })
  await whenReady(bridge)
  const edge = await startTestEdge(t, { uplinkUrl: cloud.url })
  const sensor = await connectSensor(t, edge.brokerUrl)
  const sent = readings(10, 200)
  for (let from = 0; from < sent.length; from += 100) {
    await Promise.all(
      sent.slice(from, from + 100).map(({ topic, payload }) => sensor.publishAsync(topic, payload, { qos: 1 }))
    )
    if (from % 500 === 0) {
      await cloud.kill()
      await cloud.restart()
    }
  }
  t.equal((await whenRows(store, sent.length, 60_000)).length, sent.length)
  await drained(edge, 60_000)
})

t.test(
  'another program on the same broker is not disturbed, and nothing under millrace/ is input',
  { skip },
  async (t) => {
    const plant = await startMosquitto(t)
    const other = await connectAsync(plant.url)
    t.teardown(() => other.endAsync(true))
    const heard: string[] = []
    other.on('message', (topic) => heard.push(topic))
    await other.subscribeAsync('#')
    const edge = await startTestEdge(t, {
      broker: null,
      uplinkUrl: plant.url,
      sources: { urls: [plant.url], topics: ['#'] }
    })
    await edge.when('the source is up', ({ doors }) =>
      doors.some(({ name, state }) => name.startsWith('source') && state === 'up')
    )
    await other.publishAsync('plant/a', '{"value":1,"timestamp":1700000000000}', { qos: 1 })
    await edge.when('it came', ({ sums }) => sums.some(({ received }) => received === 1))
    await edge.when('it was sent', ({ uplink }) => uplink.inFlight === 1)
    t.match(
      (await edge.status()).sums.find(({ lane }) => lane === 'readings'),
      { received: 1, accepted: 1 }
    )
    t.ok(heard.some((topic) => topic.endsWith('/batch')))
  }
)
