// The promises of ARCHITECTURE.md, each by a test of its name, on the whole line: real MQTT, real SQLite, real PostgreSQL. What
// kills processes and cuts power stands in bench/faults.
import { copyFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import { connectGateway, startTestBridge, whenReady } from '../helpers/bridge.ts'
import { connectRaw, connectSensor, dataFolder, startTestEdge } from '../helpers/edge.ts'
import { freePort } from '../helpers/free-port.ts'
import { drained, openStore, readings, startLine, whenRows } from '../helpers/line.ts'
import { createChain } from '../helpers/batches.ts'
import { waitFor } from '../helpers/wait-for.ts'

t.test('PUBACK means on disk', async (t) => {
  const folder = dataFolder(t)
  const edge = await startTestEdge(t, { dataFolder: folder, commitWindowMs: 400 })
  const client = await connectRaw(t, edge.brokerPort ?? 0, 'sensor')
  const startedMs = performance.now()
  client.send({
    cmd: 'publish',
    topic: 'a',
    payload: '{"value":1,"timestamp":1700000000000}',
    qos: 1,
    messageId: 1,
    dup: false,
    retain: false
  })
  client.send({
    cmd: 'publish',
    topic: 'a',
    payload: '{"value":2,"timestamp":1700000001000}',
    qos: 2,
    messageId: 2,
    dup: false,
    retain: false
  })
  await client.next('puback')
  t.ok(performance.now() - startedMs >= 390, 'not before the commit window ended')
  await client.next('pubrec')
  // What lies in the file at this moment, as a killed process would leave it.
  const copy = join(dataFolder(t), 'copy.db')
  for (const suffix of ['', '-wal']) {
    if (existsSync(join(folder, `buffer.db${suffix}`))) copyFileSync(join(folder, `buffer.db${suffix}`), copy + suffix)
  }
  const db = new Database(copy)
  t.teardown(() => db.close())
  t.same(db.prepare('SELECT value FROM readings ORDER BY seq').pluck().all(), [1, 2])
  t.same(db.prepare('SELECT client, packet FROM packets').all(), [{ client: 'broker/sensor', packet: 2 }])
  t.same(db.prepare("SELECT accepted FROM lanes WHERE lane = 'readings'").pluck().all(), [2])
})

t.test("Nothing leaves the edge's buffer before the cloud has committed it", async (t) => {
  const { store, edge } = await startLine(t)
  const sensor = await connectSensor(t, edge.brokerUrl)
  // The ledger can't take a row while the table is locked: the batch waits in front of the commit.
  const released = Promise.withResolvers<void>()
  const locked = Promise.withResolvers<void>()
  const lock = store.database.transaction(async (client) => {
    await client.query('LOCK TABLE ingest_batches IN ACCESS EXCLUSIVE MODE')
    locked.resolve()
    await released.promise
  })
  await locked.promise
  for (const { topic, payload } of readings(5, 4)) await sensor.publishAsync(topic, payload, { qos: 1 })
  await edge.when('all is sent', ({ uplink }) => uplink.inFlight > 0)
  const before = await edge.status()
  t.equal(before.sums.find(({ lane }) => lane === 'readings')?.pending, 20, 'the broker’s PUBACK frees nothing')
  released.resolve()
  await lock
  await drained(edge)
  t.equal((await store.rows()).length, 20)
})

t.test('Every accepted reading that was not evicted is in the database exactly once', async (t) => {
  const { store, bridge, edge } = await startLine(t)
  const sensor = await connectSensor(t, edge.brokerUrl)
  const sent = readings(20, 100)
  await Promise.all(
    sent.map(({ topic, payload }, index) => sensor.publishAsync(topic, payload, { qos: index % 2 === 0 ? 1 : 2 }))
  )
  // All again: the same keys and values.
  await Promise.all(sent.map(({ topic, payload }) => sensor.publishAsync(topic, payload, { qos: 1 })))
  await drained(edge)
  const rows = await store.rows()
  const expected = sent.map(({ topic, payload }) => {
    const { value, timestamp }: { value: number; timestamp: number } = JSON.parse(payload)
    return `${topic} ${timestamp * 1_000} ${value}`
  })
  t.same(rows.map(({ sensor_id, us, value }) => `${sensor_id} ${us} ${value}`).sort(), expected.sort())
  const { sums } = await edge.status()
  t.match(
    sums.find(({ lane }) => lane === 'readings'),
    { received: 4_000, duplicate: 2_000, accepted: 2_000, acknowledged: 2_000, stored: 2_000 }
  )
  t.equal(
    (await store.ledger()).reduce((sum, { stored }) => sum + stored, 0),
    2_000
  )
  t.ok(bridge.report().ready)
})

t.test('One bad record never stops or sinks the others', async (t) => {
  const { store, edge } = await startLine(t)
  const sensor = await connectSensor(t, edge.brokerUrl)
  const good = readings(3, 3)
  await Promise.all([
    sensor.publishAsync('plant/broken', '{"value": 1', { qos: 1 }),
    ...good.slice(0, 4).map(({ topic, payload }) => sensor.publishAsync(topic, payload, { qos: 1 })),
    // PostgreSQL has no NUL in text.
    sensor.publishAsync('plant/nul', JSON.stringify({ value: 'a\0b', timestamp: 1_700_000_000_000 }), { qos: 1 }),
    ...good.slice(4).map(({ topic, payload }) => sensor.publishAsync(topic, payload, { qos: 1 }))
  ])
  await drained(edge)
  t.equal((await store.rows()).length, good.length)
  const letters = (await store.deadLetters()).map(({ reason, source, payload }) => ({
    reason,
    source,
    payload: payload.toString()
  }))
  t.equal(letters.length, 2)
  t.match(
    letters.find(({ source }) => source === 'edge'),
    { reason: 'payload_unreadable', payload: '{"value": 1' }
  )
  t.match(letters.find(({ source }) => source === 'bridge')?.payload, /a\\u0000b/)
  const { sums } = await edge.status()
  t.match(
    sums.find(({ lane }) => lane === 'readings'),
    { acknowledged: 11, stored: 9, deadLettered: 2, pending: 0 }
  )
})

t.test('No silent loss', async (t) => {
  const { store, bridge, edge } = await startLine(t)
  const sensor = await connectSensor(t, edge.brokerUrl)
  await Promise.all([
    ...readings(4, 25).map(({ topic, payload }) => sensor.publishAsync(topic, payload, { qos: 1 })),
    sensor.publishAsync('plant/a', '{"value": 1, "timestamp": 1700000000000}', { qos: 1 }),
    sensor.publishAsync('plant/a', '{"value": 1, "timestamp": 1700000000000}', { qos: 1 }),
    sensor.publishAsync('plant/a', '{"value": 2, "timestamp": 1700000000000}', { qos: 1 }),
    sensor.publishAsync('plant/a', '[1, {', { qos: 1 })
  ])
  await drained(edge)
  const { sums } = await edge.status()
  for (const sum of sums) {
    t.equal(sum.received, sum.filtered + sum.duplicate + sum.accepted)
    t.equal(sum.accepted, sum.pending + sum.evicted + sum.acknowledged)
    t.equal(sum.acknowledged, sum.stored + sum.cloudDuplicates + sum.deadLettered)
  }
  t.match(
    sums.find(({ lane }) => lane === 'readings'),
    { received: 104, duplicate: 1, accepted: 103, rejected: 2 }
  )
  for (const { records, stored, duplicates, dead_lettered } of await store.ledger()) {
    t.equal(records, stored + duplicates + dead_lettered)
  }
  const health = await waitFor('both agree', async () => {
    const text = await (await fetch(`${bridge.url}/health`)).text()
    return text.includes('"balanced"') ? text : null
  })
  t.notMatch(health, /"missing"|"unequal"/)
})

t.test('Health means that data moves', async (t) => {
  const { store, bridge, edge } = await startLine(t)
  const sensor = await connectSensor(t, edge.brokerUrl)
  await sensor.publishAsync('plant/a', '1', { qos: 1 })
  await drained(edge)
  const before = await edge.status()
  t.equal(before.health, 'ok')
  t.equal(before.backlog?.oldestS, 0)
  await bridge.close()
  await sensor.publishAsync('plant/a', '2', { qos: 1 })
  const stuck = await edge.when('the age of what waits grows', ({ backlog }) => (backlog?.oldestS ?? 0) > 1)
  t.equal(stuck.backlog?.records, 1)
  await edge.when('health says so within 5 s', ({ health, problems }) => health !== 'ok' && problems.length > 0, 5_000)
  t.equal((await edge.get('/health/ready')).status, 200, 'the edge itself still takes and keeps')
  t.equal((await store.rows()).length, 1)
})

t.test('The edge never needs the cloud to start or to collect', async (t) => {
  const folder = dataFolder(t)
  const port = await freePort()
  const first = await startTestEdge(t, { dataFolder: folder, uplinkUrl: `mqtt://127.0.0.1:${port}` })
  t.equal((await first.get('/health/ready')).status, 200)
  const before = await connectSensor(t, first.brokerUrl)
  const sent = readings(10, 60)
  await Promise.all(sent.slice(0, 300).map(({ topic, payload }) => before.publishAsync(topic, payload, { qos: 1 })))
  await before.endAsync()
  await first.close()
  const second = await startTestEdge(t, { dataFolder: folder, uplinkUrl: `mqtt://127.0.0.1:${port}` })
  const after = await connectSensor(t, second.brokerUrl)
  await Promise.all(sent.slice(300).map(({ topic, payload }) => after.publishAsync(topic, payload, { qos: 1 })))
  t.equal((await second.status()).backlog?.records, 600)
  const store = await openStore(t)
  const bridge = await startTestBridge(t, { databaseUrl: store.url, broker: { host: '127.0.0.1', port } })
  await whenReady(bridge)
  t.equal((await whenRows(store, 600, 40_000)).length, 600)
  await drained(second)
})

t.test('A second instance is safe', async (t) => {
  const store = await openStore(t)
  const bridges = await Promise.all([1, 2].map(() => startTestBridge(t, { databaseUrl: store.url })))
  await Promise.all(bridges.map(whenReady))
  const chain = createChain('plant-1')
  const batches = Array.from({ length: 12 }, (_unused, number) =>
    chain.readings(
      Array.from({ length: 50 }, (_row, index) => ({
        sensor: `s${index % 5}`,
        timestampUs: 1_700_000_000_000_000 + (number * 50 + index) * 1_000,
        value: number + index / 8
      }))
    )
  )
  // Both get all, one in the opposite order.
  const results = await Promise.all(
    bridges.map(async (bridge, index) => {
      const gateway = await connectGateway(t, bridge.brokerUrl, 'plant-1')
      const order = index === 0 ? batches : batches.toReversed()
      const answers = []
      for (const { wire } of order) answers.push((await gateway.send(wire)).result)
      return answers
    })
  )
  const all = results.flat()
  t.equal(all.filter((result) => result === 'committed').length, 12, 'each batch once')
  t.equal(all.filter((result) => result === 'replay').length, 12, 'and its repeat is told so')
  t.equal((await store.rows()).length, 600)
  t.equal((await store.ledger()).length, 12)
})
