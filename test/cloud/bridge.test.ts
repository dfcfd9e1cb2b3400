import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { connectAsync } from 'mqtt'
import t from 'tap'
import type { Test } from 'tap'
import pg from 'pg'
import { startBridge } from '../../cloud/bridge.ts'
import { openBroker } from '../../cloud/broker.ts'
import { createGate } from '../../cloud/broker-gate.ts'
import { startPostgres } from '../../demo/postgres.ts'
import { silentLog } from '../../shared/log.ts'
import type { EpochSums } from '../../shared/status.ts'
import { filterOf, topicOf } from '../../shared/topics.ts'
import { startAedes } from '../helpers/aedes-broker.ts'
import { createChain, ramp } from '../helpers/batches.ts'
import { connectGateway, migrateDatabase, startTestBridge, whenReady } from '../helpers/bridge.ts'
import type { TestBridge } from '../helpers/bridge.ts'
import { freePort } from '../helpers/free-port.ts'
import { startTestServer, testDatabase } from '../helpers/postgres.ts'
import { waitFor } from '../helpers/wait-for.ts'

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql)
    return rows
  } finally {
    await client.end()
  }
}

async function readyBridge(t: Test, gateway = 'press-hall') {
  const { url } = await testDatabase(t)
  await migrateDatabase(url)
  const bridge = await startTestBridge(t, { databaseUrl: url })
  await whenReady(bridge)
  return { url, bridge, gateway: await connectGateway(t, bridge.brokerUrl, gateway) }
}

function sumsOf(epoch: string, acknowledged: number): EpochSums {
  const sums = { received: acknowledged, filtered: 0, duplicate: 0, accepted: acknowledged, rejected: 0, pending: 0 }
  return {
    epoch,
    lane: 'readings',
    ...sums,
    evicted: 0,
    acknowledged,
    stored: acknowledged,
    cloudDuplicates: 0,
    deadLettered: 0
  }
}

function gatewayOf(bridge: TestBridge, name: string) {
  return bridge.report().gateways.find(({ gateway }) => gateway === name)
}

t.test('a sealed batch of a plain MQTT client is answered when it is in the table', async (t) => {
  const { url, gateway } = await readyBridge(t)
  const chain = createChain('press-hall')
  const batch = chain.readings(ramp(50, { sensors: 5 }))
  t.match(await gateway.send(batch.wire), { result: 'committed', batch: 1, stored: 50, duplicates: 0, dead_letters: 0 })
  t.same(await query(url, 'SELECT count(*)::integer AS n FROM sensor_readings'), [{ n: 50 }])
  t.match(await gateway.send(batch.wire), { result: 'replay', batch: 1, stored: 50 })
  t.same(await query(url, 'SELECT count(*)::integer AS n FROM sensor_readings'), [{ n: 50 }])
})

t.test('a bridge starts without its database and takes batches when it comes', async (t) => {
  const port = await freePort()
  const first = await startTestServer(t, { port })
  await migrateDatabase(first.url)
  await first.stop()
  const bridge = await startTestBridge(t, { databaseUrl: first.url })
  const answer = await fetch(`${bridge.url}/health/ready`)
  t.equal(answer.status, 503)
  await waitFor('the reason', () => bridge.report().database.state === 'down')
  t.match(bridge.report().notReady.join('\n'), /no connection to .*ECONNREFUSED.*; check that DATABASE_URL is right/)
  const again = await startPostgres({ dataDir: first.dataDir, port, settings: { fsync: 'off' } })
  t.teardown(() => again.stop('immediate'))
  await whenReady(bridge)
  const gateway = await connectGateway(t, bridge.brokerUrl, 'press-hall')
  t.match(await gateway.send(createChain('press-hall').readings(ramp(3)).wire), { result: 'committed', stored: 3 })
})

t.test(
  'without migrations the bridge is not ready and says what to run, and goes on by itself afterwards',
  async (t) => {
    const { url } = await testDatabase(t)
    const bridge = await startTestBridge(t, { databaseUrl: url })
    await waitFor('the database to be looked at', () => bridge.report().database.schema)
    const answer = await fetch(`${bridge.url}/health/ready`)
    t.equal(answer.status, 503)
    t.match(await answer.json(), { error: 'not_ready', message: /run npm run migrate/ })
    await migrateDatabase(url)
    await whenReady(bridge)
    t.equal((await fetch(`${bridge.url}/health/ready`)).status, 200)
  }
)

t.test('the sums of an edge are compared with the ledger', async (t) => {
  const { bridge, gateway } = await readyBridge(t)
  const chain = createChain('press-hall')
  await gateway.send(chain.readings(ramp(10)).wire)
  await gateway.say({
    epoch: chain.epoch,
    sums: [sumsOf(chain.epoch, 10)],
    backlog: { records: 4, bytes: 400, oldestS: 1.5 }
  })
  const balance = () => gatewayOf(bridge, 'press-hall')?.balances[0]
  await waitFor('equal sums', () => balance()?.state === 'balanced')
  t.match(gatewayOf(bridge, 'press-hall'), {
    state: 'online',
    backlog: { records: 4 },
    deadLettersOpen: 0,
    alarm: null
  })
  await gateway.send(chain.readings(ramp(5, { prefix: 'other' })).wire)
  await waitFor('an answer on its way', () => balance()?.state === 'in flight')
  t.equal(balance()?.difference, 5)
  t.equal(bridge.report().status, 'ok')
  await gateway.say({ epoch: chain.epoch, sums: [sumsOf(chain.epoch, 20)] })
  await waitFor('a loss to be seen', () => balance()?.state === 'missing')
  t.equal(bridge.report().status, 'degraded')
  t.match(bridge.report().problems.join(), /press-hall: the ledger lacks 5 acknowledged records/)
})

t.test('a gateway that breaks off is shown as offline with what it last said', async (t) => {
  const { bridge, gateway } = await readyBridge(t)
  await gateway.say({ backlog: { records: 7, bytes: 70, oldestS: 0 } })
  await waitFor('the status', () => gatewayOf(bridge, 'press-hall')?.state === 'online')
  await gateway.say({ online: false, problems: ['offline: the connection to the broker was lost'] })
  await waitFor('the will', () => gatewayOf(bridge, 'press-hall')?.state === 'offline')
  t.equal(gatewayOf(bridge, 'press-hall')?.backlog?.records, 7)
})

t.test('a cloned gateway is an alarm', async (t) => {
  const { bridge, gateway } = await readyBridge(t)
  await gateway.send(createChain('press-hall').readings(ramp(2)).wire)
  const forged = createChain('press-hall').readings(ramp(3))
  t.match(await gateway.send(forged.wire), { result: 'refused', reason: 'fork' })
  await waitFor('the alarm', () => gatewayOf(bridge, 'press-hall')?.alarm?.includes('cloned') === true)
  t.equal(bridge.report().status, 'degraded')
  t.ok(bridge.report().ready)
})

t.test('garbage on every topic and port changes nothing but counters', async (t) => {
  const { url, bridge, gateway } = await readyBridge(t)
  const { client } = gateway
  const before = process.memoryUsage().arrayBuffers
  for (let i = 0; i < 40; i += 1) {
    await client.publishAsync(topicOf('press-hall', 'batch'), randomBytes(1 + i * 100), { qos: 1 })
    await client.publishAsync(topicOf(`gateway-${i}`, 'status'), randomBytes(1 + i * 10), { qos: 1, retain: true })
    await client.publishAsync(topicOf('press-hall', 'latest'), randomBytes(i), { qos: 0 })
  }
  await client.publishAsync(topicOf('press-hall', 'status'), JSON.stringify({ gateway: 'another' }), { qos: 1 })
  const other = createChain('another').readings(ramp(1))
  await client.publishAsync(topicOf('press-hall', 'batch'), Buffer.from(other.wire), { qos: 1 })
  for (const port of [bridge.brokerPort, bridge.httpPort]) {
    for (let i = 0; i < 20; i += 1) await sendRaw(port ?? 0, randomBytes(2_000))
  }
  await waitFor('all of it to be counted', () => {
    const { ingest, statuses } = bridge.report()
    return ingest.refused.unreadable === 40 && ingest.refused.wrongGateway === 1 && statuses.unreadable >= 41
  })
  await waitFor('the dead letters', () => gatewayOf(bridge, 'press-hall')?.deadLettersOpen === 40)
  t.equal(bridge.report().gateways.length, 1, 'rubbish makes no gateways')
  t.ok((bridge.report().broker.figures?.refusedConnections ?? 0) >= 10)
  t.same(await query(url, 'SELECT count(*)::integer AS n FROM sensor_readings'), [{ n: 0 }])
  t.ok(process.memoryUsage().arrayBuffers - before < 20e6)
  const good = createChain('press-hall').readings(ramp(4))
  const count = gateway.acks.length
  await client.publishAsync(topicOf('press-hall', 'batch'), Buffer.from(good.wire), { qos: 1 })
  await waitFor('the good batch', () => gateway.acks.slice(count).find(({ result }) => result === 'committed'))
  t.ok(bridge.report().ready)
})

/** Resolves when the other side has closed, or after the bytes were taken. */
function sendRaw(port: number, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.on('error', () => undefined)
    socket.on('close', () => resolve())
    socket.end(bytes)
    socket.resume()
  })
}

t.test('the embedded broker lets each publish what is its own', async (t) => {
  const broker = await openBroker({ host: '127.0.0.1', port: 0, log: silentLog() })
  t.teardown(broker.close)
  const url = `mqtt://127.0.0.1:${broker.port}`
  const allowed = ['batch', 'status', 'latest'] as const
  for (const channel of allowed) {
    const client = await connectAsync(url, { reconnectPeriod: 0 })
    const publishing = channel === 'batch' ? null : client.publishAsync(topicOf('press', channel), 'x', { qos: 1 })
    await publishing
    t.ok(client.connected, channel)
    await client.endAsync(true)
  }
  for (const topic of [
    topicOf('press', 'ack'),
    topicOf('press', 'command'),
    '$SYS/x',
    'plant/x',
    'millrace/v1/Press/batch',
    'millrace/let-go'
  ]) {
    const client = await connectAsync(url, { reconnectPeriod: 0 })
    client.on('error', () => undefined)
    const closed = new Promise((resolve) => client.once('close', () => resolve(true)))
    client.publish(topic, 'x', { qos: 1 })
    t.ok(await closed, topic)
  }
  t.equal(broker.figures().refusedPublishes, 6)
  const reader = await connectAsync(url, { reconnectPeriod: 0 })
  t.teardown(() => reader.endAsync(true))
  for (const filter of [
    '#',
    '$share/bridge/millrace/v1/+/batch',
    filterOf('batch'),
    topicOf('press', 'batch'),
    'millrace/#',
    '$SYS/#',
    filterOf('ack')
  ]) {
    await t.rejects(reader.subscribeAsync(filter), filter)
  }
  const granted = await reader.subscribeAsync([topicOf('press', 'ack'), filterOf('status')])
  t.same(
    granted.map(({ qos }) => qos),
    [0, 0]
  )
})

t.test('the bridge’s name at its broker is not to be had without the secret', async (t) => {
  const broker = await openBroker({ host: '127.0.0.1', port: 0, log: silentLog() })
  t.teardown(broker.close)
  const url = `mqtt://127.0.0.1:${broker.port}`
  const tries = [
    { username: 'millrace-bridge', password: 'guess' },
    { username: 'millrace-bridge' },
    { clientId: 'millrace-bridge-1234' }
  ]
  for (const login of tries) await t.rejects(connectAsync(url, { ...login, reconnectPeriod: 0 }), /Not authorized/)
  const own = await connectAsync(broker.url, { clientId: 'millrace-bridge-1', reconnectPeriod: 0 })
  await own.publishAsync(topicOf('press', 'ack'), '{}', { qos: 1 })
  await own.endAsync(true)
})

t.test('the broker holds batches back while the bridge has enough, and then lets them through', async (t) => {
  const limits = { maxBatches: 2, maxBytes: 1e6, maxWaitingBytes: 1e6 }
  const broker = await openBroker({ host: '127.0.0.1', port: 0, limits, log: silentLog() })
  t.teardown(broker.close)
  const taken: string[] = []
  const answers: (() => void)[] = []
  const receiver = await connectAsync(broker.url, { clientId: 'millrace-bridge-1', reconnectPeriod: 0 })
  t.teardown(() => receiver.endAsync(true))
  receiver.handleMessage = (packet, done) => {
    taken.push(packet.payload.toString())
    answers.push(() => done())
  }
  await receiver.subscribeAsync(filterOf('batch'), { qos: 1 })
  const client = await connectAsync(`mqtt://127.0.0.1:${broker.port}`, { reconnectPeriod: 0 })
  t.teardown(() => client.endAsync(true))
  const published: string[] = []
  for (const name of ['a', 'b', 'c', 'd']) {
    void client.publishAsync(topicOf('press', 'batch'), name, { qos: 1 }).then(() => published.push(name))
  }
  await waitFor('two to pass and two to wait', () => broker.figures().passing === 2 && broker.figures().waiting === 2)
  t.same(published, ['a', 'b'])
  for (let answered = 0; answered < 4; answered += 1) {
    const answer = await waitFor('a batch', () => answers[answered])
    answer()
  }
  await waitFor('all to be published', () => published.length === 4 && broker.figures().passing === 0)
  t.same(taken, ['a', 'b', 'c', 'd'])
  t.equal(broker.figures().letGo, 0)
})

t.test('a batch that nobody takes is let go after a while, and at once while nothing moves', async (t) => {
  let clockMs = 0
  const gate = createGate<{ name: string }>({
    maxBatches: 1,
    maxBytes: 100,
    maxWaitingBytes: 10,
    clockMs: () => clockMs
  })
  t.teardown(gate.close)
  const outcomes: string[] = []
  const press = { name: 'press' }
  const bridge = { name: 'bridge' }
  const admit = (name: string, payload = new Uint8Array(8)) => {
    gate.admit(press, payload, (taken) => outcomes.push(`${name} ${taken ? 'passes' : 'let go'}`))
    return payload
  }
  admit('a')
  admit('b')
  t.same(outcomes.splice(0), ['b let go'], 'what would wait beyond the limit is let go at once')
  clockMs += 6_000
  await waitFor('the first to be let go', () => outcomes.length > 0)
  admit('c')
  t.same(outcomes.splice(0), ['a let go', 'c let go'])
  gate.setReceiver(bridge)
  const taken = admit('d')
  admit('e')
  t.same(outcomes.splice(0), ['d passes'])
  gate.sent(taken)
  gate.answered()
  t.same(outcomes.splice(0), ['e passes'], 'an answer makes room for one')
  gate.forget(press)
  t.match(gate.figures(), { passing: 0, passingBytes: 0, waiting: 0, letGo: 3 })
  gate.sent(admit('f'))
  gate.setReceiver(null)
  t.match(gate.figures(), { passing: 0, passingBytes: 0 }, 'what the receiver had goes with it')
})

t.test('a batch sent while the database is away is answered when it is back', async (t) => {
  const port = await freePort()
  const first = await startTestServer(t, { port })
  await migrateDatabase(first.url)
  const bridge = await startTestBridge(t, { databaseUrl: first.url })
  await whenReady(bridge)
  const gateway = await connectGateway(t, bridge.brokerUrl, 'press-hall')
  await first.stop('immediate')
  const answer = gateway.send(createChain('press-hall').readings(ramp(9)).wire)
  await waitFor('the hold to be seen', () => bridge.report().ingest.state === 'held' && !bridge.report().ready)
  t.match(bridge.report().notReady.join('\n'), /ingest is held since/)
  t.equal(bridge.report().ingest.heldBatches, 1)
  const again = await startPostgres({ dataDir: first.dataDir, port, settings: { fsync: 'off' } })
  t.teardown(() => again.stop('immediate'))
  t.match(await answer, { result: /committed|replay/, stored: 9 })
  await whenReady(bridge)
})

t.test('a broker elsewhere is used like the embedded one, and waited for', async (t) => {
  const { url } = await testDatabase(t)
  await migrateDatabase(url)
  const broker = await startAedes(t)
  const bridge = await startTestBridge(t, { databaseUrl: url, brokerUrl: broker.url })
  await whenReady(bridge)
  t.equal(bridge.brokerPort, null)
  t.match(bridge.report().broker, { kind: 'external', state: 'up', figures: null })
  const gateway = await connectGateway(t, broker.url, 'press-hall')
  t.match(await gateway.send(createChain('press-hall').readings(ramp(3)).wire), { result: 'committed', stored: 3 })
  await broker.stop()
  await waitFor('the loss to be seen', () => !bridge.report().ready)
  t.match(bridge.report().notReady.join(), /^broker mqtt:\/\/127\.0\.0\.1:\d+: /)
  t.equal(bridge.report().status, 'failing')
})

t.test('health says within seconds that PostgreSQL hangs, and never waits for it', async (t) => {
  const server = await startTestServer(t)
  await migrateDatabase(server.url)
  const bridge = await startTestBridge(t, { databaseUrl: server.url })
  await whenReady(bridge)
  const sessions = await query(server.url, 'SELECT pid FROM pg_stat_activity')
  const processes = [server.pid, ...sessions.map(({ pid }) => Number(pid))]
  function signal(name: NodeJS.Signals): void {
    for (const pid of processes) {
      try {
        process.kill(pid, name)
      } catch {
        // A session that has ended since, such as the one that asked.
      }
    }
  }
  t.teardown(() => signal('SIGCONT'))
  signal('SIGSTOP')
  let slowestMs = 0
  const text = await waitFor('health to say so', async () => {
    const began = performance.now()
    const answer = await fetch(`${bridge.url}/health`)
    const body = await answer.text()
    slowestMs = Math.max(slowestMs, performance.now() - began)
    return answer.status === 503 ? body : null
  })
  t.match(text, /has not answered for/)
  t.ok(slowestMs < 2_000, `answered within ${slowestMs} ms`)
  t.equal((await fetch(`${bridge.url}/health/live`)).status, 200)
  signal('SIGCONT')
  await whenReady(bridge)
})

t.test('a port in use stops the start with the variable to set, and leaves nothing open', async (t) => {
  const { url } = await testDatabase(t)
  const bridge = await startTestBridge(t, { databaseUrl: url })
  const start = (ports: { broker: number; http: number }) =>
    startBridge(
      {
        brokerUrl: null,
        broker: { host: '127.0.0.1', port: ports.broker },
        http: { host: '127.0.0.1', port: ports.http },
        databaseUrl: url,
        retentionDays: 0,
        compressAfterDays: 0
      },
      { log: silentLog(), onFatal: () => undefined }
    )
  const brokerPort = await freePort()
  await t.rejects(start({ broker: bridge.brokerPort ?? 0, http: 0 }), {
    code: 'port_in_use',
    hint: /BRIDGE_BROKER_PORT/
  })
  await t.rejects(start({ broker: brokerPort, http: bridge.httpPort }), {
    code: 'port_in_use',
    hint: /BRIDGE_HTTP_PORT/
  })
  const later = await openBroker({ host: '127.0.0.1', port: brokerPort, log: silentLog() })
  await later.close()
})
