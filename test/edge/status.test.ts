import t from 'tap'
import { createRates } from '../../edge/rates.ts'
import { isBalanced, toDrainS, toFullS } from '../../edge/status.ts'
import { startWatch } from '../../edge/watch.ts'
import type { StoreFigures } from '../../edge/buffer/store.ts'
import { edgeStatus } from '../../shared/status.ts'
import type { EpochSums } from '../../shared/status.ts'
import { topicOf } from '../../shared/topics.ts'
import { ackOf, connectSensor, NO_CLOUD, startFakeBridge, startTestEdge } from '../helpers/edge.ts'
import { waitFor } from '../helpers/wait-for.ts'

const SUMS: EpochSums = {
  epoch: '00',
  lane: 'readings',
  received: 10,
  filtered: 1,
  duplicate: 2,
  accepted: 7,
  rejected: 1,
  pending: 3,
  evicted: 0,
  acknowledged: 4,
  stored: 2,
  cloudDuplicates: 1,
  deadLettered: 1
}

const FIGURES: StoreFigures = {
  epoch: '00',
  sums: [SUMS],
  pendingRecords: 3,
  pendingBytes: 30,
  oldestPendingUs: null,
  usedBytes: 1_000,
  maxBytes: 10_000,
  full: false,
  checked: 0,
  damaged: 0,
  ignoredAcks: 0
}

t.test('sums balance when every record is somewhere, once', async (t) => {
  t.equal(isBalanced([SUMS], 3), true)
  t.equal(isBalanced([SUMS, { ...SUMS, epoch: '01' }], 6), true)
  t.equal(isBalanced([SUMS], 2), false, 'one that counts as pending does not wait')
  t.equal(isBalanced([{ ...SUMS, received: 11 }], 3), false)
  t.equal(isBalanced([{ ...SUMS, acknowledged: 5, stored: 3 }], 3), false)
  t.equal(isBalanced([{ ...SUMS, stored: 3 }], 3), false)
})

t.test('the time to full is the room over what comes in beyond what leaves', async (t) => {
  const figures = { ...FIGURES, pendingRecords: 100, pendingBytes: 1_000 }
  // 9,000 bytes below the reserve, 1,000 taken; 10 bytes a record, 8 records a second.
  t.equal(toFullS(figures, null, { received: 10, acknowledged: 2 }), 100)
  t.equal(toFullS(figures, 400, { received: 10, acknowledged: 2 }), 5, 'the volume is full first')
  t.equal(toFullS(figures, null, { received: 2, acknowledged: 10 }), null)
  t.equal(
    toFullS(figures, null, { received: 21, acknowledged: 20 }),
    null,
    'a backlog of five seconds is the normal course'
  )
})

t.test('the time to drain is the backlog over what leaves beyond what comes in', async (t) => {
  t.equal(toDrainS(100, { received: 2, acknowledged: 7 }), 20)
  t.equal(toDrainS(100, { received: 7, acknowledged: 7 }), null)
  t.equal(toDrainS(0, { received: 7, acknowledged: 0 }), 0)
  t.equal(toDrainS(20, { received: 10, acknowledged: 10 }), 2, 'a backlog of two seconds is the normal course')
})

t.test('rates are the mean over the window', async (t) => {
  const rates = createRates(10_000)
  t.same(rates.perSecond(), { received: 0, acknowledged: 0 })
  rates.note(0, { received: 1_000, acknowledged: 0 })
  t.same(rates.perSecond(), { received: 0, acknowledged: 0 })
  rates.note(5_000, { received: 1_500, acknowledged: 50 })
  t.same(rates.perSecond(), { received: 100, acknowledged: 10 })
  for (const atMs of [10_000, 15_000, 20_000]) rates.note(atMs, { received: 1_500, acknowledged: 50 })
  t.same(rates.perSecond(), { received: 0, acknowledged: 0 }, 'what is older is forgotten')
})

t.test('a buffer that does not answer is seen within 5 s, and the last figures are shown', async (t) => {
  let clockMs = 0
  let hangs = false
  const watch = await startWatch({
    buffer: { figures: () => (hangs ? new Promise<never>(() => undefined) : Promise.resolve(FIGURES)) },
    isUplinkUp: () => false,
    onTick: () => undefined,
    now: () => 0,
    clockMs: () => clockMs
  })
  t.teardown(() => watch.close())
  t.same(await watch.look(), FIGURES)
  hangs = true
  const looked = watch.look()
  t.equal(watch.isAnswering(), true)
  clockMs = 4_999
  t.equal(watch.isAnswering(), true)
  clockMs = 5_000
  t.equal(watch.isAnswering(), false)
  t.same(await looked, FIGURES)
})

t.test('an edge without its cloud is degraded and ready', async (t) => {
  const edge = await startTestEdge(t, { uplinkUrl: NO_CLOUD, sources: { urls: [NO_CLOUD], topics: ['#'] } })
  const status = await edge.when('the tries have failed', ({ uplink, doors }) => {
    return /ECONNREFUSED/.test(uplink.detail ?? '') && /ECONNREFUSED/.test(doors[1]?.detail ?? '')
  })
  t.match(status, { health: 'degraded', notReady: null, uplink: { state: 'down' }, lastAckAgeS: null })
  t.match(status.problems, [
    /^uplink is down since \d{4}-.*ECONNREFUSED/,
    /^source mqtt:\/\/127\.0\.0\.1:9 is down: .*ECONNREFUSED/
  ])
  t.equal((await edge.get('/health/ready')).status, 200)
  t.equal((await edge.get('/health')).status, 200)
})

t.test('data that does not move is a problem although all is connected', async (t) => {
  let aheadMs = 0
  const bridge = await startFakeBridge(t)
  bridge.hold()
  const edge = await startTestEdge(t, { uplinkUrl: bridge.url }, { now: () => Date.now() + aheadMs })
  await edge.when('the uplink is up', ({ uplink }) => uplink.state === 'up')
  const sensor = await connectSensor(t, edge.brokerUrl)
  await sensor.publishAsync('plant/a', '1', { qos: 1 })
  await waitFor('the batch is with the bridge', () => bridge.envelopes.length > 0)
  t.same((await edge.status()).problems, [])
  aheadMs = 31_000
  t.match((await edge.status()).problems, [/^data does not move: the oldest record waits for 3\d s/])
  bridge.resume()
  const status = await edge.when('it moves again', ({ backlog }) => backlog?.records === 0)
  t.same(status.problems, [])
  t.equal(status.health, 'ok')
})

t.test('an uplink whose batches the bridge does not understand is held, and says so', async (t) => {
  const bridge = await startFakeBridge(t, (envelope) => ackOf(envelope, 'unsupported_version'))
  const edge = await startTestEdge(t, { uplinkUrl: bridge.url })
  const sensor = await connectSensor(t, edge.brokerUrl)
  await sensor.publishAsync('plant/a', '1', { qos: 1 })
  const status = await edge.when('it is held', ({ uplink }) => uplink.held !== null)
  t.match(status.problems, [/^sending is held: .*update the bridge/])
  t.match(status, { health: 'degraded', notReady: null, backlog: { records: 1 } })
})

t.test('the cloud is told the status, and that the edge is gone', async (t) => {
  const bridge = await startFakeBridge(t)
  const told: unknown[] = []
  const listener = await connectSensor(t, bridge.url)
  listener.on('message', (_topic, payload) => told.push(JSON.parse(payload.toString())))
  await listener.subscribeAsync(topicOf('hall-1', 'status'))
  const edge = await startTestEdge(t, { uplinkUrl: bridge.url, gatewayId: 'hall-1' })
  const first = edgeStatus.strict().parse(await waitFor('the status arrives', () => told[0]))
  t.match(first, {
    gateway: 'hall-1',
    online: true,
    version: /^\d+\.\d+\.\d+/,
    backlog: { records: 0 },
    doors: [{ state: 'up' }]
  })
  await edge.close()
  t.match(await waitFor('the farewell arrives', () => told[1]), {
    gateway: 'hall-1',
    online: false,
    problems: ['offline: stopped']
  })
})
