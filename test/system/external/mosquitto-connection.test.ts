import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import mqtt from 'mqtt'
import t from 'tap'
import type { Test } from 'tap'
import { silentLog } from '../../../shared/log.ts'
import { openConnection } from '../../../shared/mqtt/connection.ts'
import type { ConnectionOptions, ConnectionState, Delivery, MqttConnection } from '../../../shared/mqtt/connection.ts'
import { listen } from '../../helpers/aedes-broker.ts'
import { skipWithoutMosquitto, startMosquitto } from '../../helpers/mosquitto.ts'
import { waitFor } from '../../helpers/wait-for.ts'

const skip = skipWithoutMosquitto
/** CONNACK of 3.1.1: unacceptable protocol version. */
const REFUSED_VERSION = Buffer.from([0x20, 2, 0, 1])
const VERSION_OFFSET = 8

type Way = { url: string; cut(): void }

/** A way to the broker that can be cut, and that refuses MQTT 5 where only 3.1.1 is wanted. */
async function startWay(t: Test, port: number, version: 4 | 5): Promise<Way> {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    near.on('error', () => {})
    near.once('data', (first: Buffer) => {
      if (version === 4 && first[VERSION_OFFSET] === 5) return near.end(REFUSED_VERSION)
      const far = connect({ host: '127.0.0.1', port })
      for (const socket of [near, far]) {
        sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          near.destroy()
          far.destroy()
          sockets.delete(socket)
        })
      }
      far.write(first)
      near.pipe(far)
      far.pipe(near)
    })
  })
  const wayPort = await listen(server)
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  t.teardown(() => {
    cut()
    server.close()
  })
  return { url: `mqtt://127.0.0.1:${wayPort}`, cut }
}

function open(t: Test, url: string, more: Partial<ConnectionOptions> = {}) {
  const deliveries: Delivery[] = []
  const states: ConnectionState[] = []
  const connection = openConnection({
    url,
    clientId: 'test',
    clean: false,
    receiveMaximum: 500,
    subscriptions: [{ filter: 'plant/#', qos: 2 }],
    retry: { baseMs: 5, capMs: 20 },
    onDelivery(delivery, done) {
      deliveries.push(delivery)
      done(null)
    },
    onState: (state) => states.push(state),
    log: silentLog(),
    ...more
  })
  t.teardown(() => connection.close())
  return {
    connection,
    deliveries,
    states,
    texts: () => deliveries.map(({ payload }) => Buffer.from(payload).toString())
  }
}

function subscribed(connection: MqttConnection): Promise<unknown> {
  return waitFor('the subscription', () => {
    const state = connection.state()
    return state.phase === 'connected' && state.subscribed
  })
}

for (const version of [5, 4] as const) {
  const name = version === 5 ? 'MQTT 5' : 'MQTT 3.1.1'

  t.test(`${name}: every QoS arrives, and a persistent session brings what came while away`, { skip }, async (t) => {
    const broker = await startMosquitto(t)
    const way = await startWay(t, broker.port, version)
    const first = open(t, way.url)
    await subscribed(first.connection)
    t.match(first.connection.state(), {
      protocolVersion: version,
      sessionPresent: false,
      sharedSubscriptions: version === 5
    })
    const sender = await mqtt.connectAsync(broker.url, { clientId: 'sender' })
    t.teardown(() => sender.endAsync(true))
    for (const qos of [0, 1, 2] as const) await sender.publishAsync('plant/x', `qos ${qos}`, { qos })
    await waitFor('three deliveries', () => first.deliveries.length === 3)
    t.same(
      first.deliveries.map(({ qos }) => qos),
      [0, 1, 2]
    )
    await waitFor('empty hands', () => first.connection.heldDeliveries() === 0)
    await first.connection.close()
    for (let i = 0; i < 50; i += 1) await sender.publishAsync('plant/x', `away ${i}`, { qos: i % 2 === 0 ? 1 : 2 })
    const second = open(t, way.url)
    await waitFor('what came while away', () => second.deliveries.length === 50)
    t.match(second.connection.state(), { sessionPresent: true })
    t.same(
      second.texts(),
      Array.from({ length: 50 }, (_, i) => `away ${i}`)
    )
  })

  t.test(
    `${name}: over a line cut again and again QoS 1 loses nothing and QoS 2 doubles nothing either`,
    { skip },
    async (t) => {
      const broker = await startMosquitto(t, { config: ['max_inflight_messages 500', 'max_queued_messages 0'] })
      const way = await startWay(t, broker.port, version)
      const seen = new Map<string, number>()
      const { connection } = open(t, way.url, {
        onDelivery(delivery, done) {
          const text = Buffer.from(delivery.payload).toString()
          seen.set(text, (seen.get(text) ?? 0) + 1)
          setTimeout(() => done(null), 3)
        }
      })
      await subscribed(connection)
      const sender = await mqtt.connectAsync(broker.url, { clientId: 'sender' })
      t.teardown(() => sender.endAsync(true))
      const count = 6_000
      for (let i = 0; i < count; i += 1) {
        const published = sender.publishAsync('plant/x', `m${i}`, { qos: i % 3 === 0 ? 1 : 2 })
        if (i % 100 === 99) await published
        if (i % 1_000 === 999) way.cut()
      }
      await waitFor('all messages', () => seen.size === count, { timeoutMs: 20_000 })
      await waitFor('empty hands', () => connection.heldDeliveries() === 0)
      const doubled = [...seen].filter(([, times]) => times > 1).map(([text]) => Number(text.slice(1)))
      t.same(
        doubled.filter((i) => i % 3 !== 0),
        [],
        'no QoS 2 message came twice'
      )
    }
  )

  t.test(`${name}: many deliveries are in hand at once, and never more than receiveMaximum`, { skip }, async (t) => {
    const broker = await startMosquitto(t, { config: ['max_inflight_messages 1000', 'max_queued_messages 0'] })
    const way = await startWay(t, broker.port, version)
    const waiting: (() => void)[] = []
    let count = 0
    let most = 0
    const { connection } = open(t, way.url, {
      receiveMaximum: 200,
      onDelivery(_delivery, done) {
        count += 1
        most = Math.max(
          most,
          waiting.push(() => done(null))
        )
      }
    })
    await subscribed(connection)
    const sender = await mqtt.connectAsync(broker.url, { clientId: 'sender' })
    t.teardown(() => sender.endAsync(true))
    await Promise.all(Array.from({ length: 2_000 }, (_, i) => sender.publishAsync('plant/x', `m${i}`, { qos: 1 })))
    await waitFor('full hands', () => waiting.length === 200)
    await waitFor('all deliveries', () => {
      for (const done of waiting.splice(0)) done()
      return count === 2_000
    })
    t.equal(most, 200)
  })

  t.test(`${name}: publishes are acknowledged, and retained ones are marked at subscribing`, { skip }, async (t) => {
    const broker = await startMosquitto(t)
    const way = await startWay(t, broker.port, version)
    const sender = open(t, way.url, { clientId: 'sender', subscriptions: [] })
    await subscribed(sender.connection)
    await sender.connection.publish('plant/kept', 'old', { qos: 1, retain: true })
    const { connection, deliveries, texts } = open(t, way.url)
    await subscribed(connection)
    await waitFor('the retained message', () => deliveries.length === 1)
    await Promise.all(
      Array.from({ length: 500 }, (_, i) => sender.connection.publish('plant/x', `${i}`, { qos: 1, retain: false }))
    )
    await sender.connection.publish('plant/kept', 'new', { qos: 0, retain: true })
    await waitFor('all', () => deliveries.length === 502)
    t.same(
      deliveries.filter(({ retained }) => retained).map(({ topic }) => topic),
      ['plant/kept']
    )
    t.same(
      texts().filter((text) => /^\d/.test(text)),
      Array.from({ length: 500 }, (_, i) => `${i}`)
    )
  })

  t.test(`${name}: the will is published when the line breaks, and not after closing`, { skip }, async (t) => {
    const broker = await startMosquitto(t)
    const way = await startWay(t, broker.port, version)
    const watcher = open(t, broker.url, { clientId: 'watcher' })
    await subscribed(watcher.connection)
    const will = { topic: 'plant/will', payload: 'gone', qos: 1, retain: false } as const
    const { connection } = open(t, way.url, { will, subscriptions: [] })
    await subscribed(connection)
    way.cut()
    await waitFor('the will', () => watcher.deliveries.length === 1)
    await subscribed(connection)
    await connection.close()
    await watcher.connection.publish('plant/after', 'x', { qos: 1 })
    await waitFor('a later message', () => watcher.texts().includes('x'))
    t.same(watcher.texts(), ['gone', 'x'])
  })
}

t.test('a session taken over says that another client has the same id', { skip }, async (t) => {
  const broker = await startMosquitto(t)
  const first = open(t, broker.url, { retry: { baseMs: 60_000, capMs: 60_000 }, random: () => 1 })
  await subscribed(first.connection)
  const second = open(t, broker.url)
  await subscribed(second.connection)
  const state = await waitFor('the end of the first', () => first.states.find(({ phase }) => phase === 'disconnected'))
  t.match(state, { reason: /another client .* the same client id/ })
})

t.test('a publish that the access rules refuse is rejected, in MQTT 5', { skip }, async (t) => {
  const broker = await startMosquitto(t, {
    config: ['acl_file {folder}/acl'],
    files: { acl: 'topic readwrite plant/#\n' }
  })
  const { connection } = open(t, broker.url)
  await subscribed(connection)
  await t.rejects(connection.publish('secret/x', 'x', { qos: 1 }), {
    code: 'connection_refused',
    message: /not authorized/
  })
  await connection.publish('plant/x', 'x', { qos: 1 })
})

t.test('wrong credentials are refused with a reason and tried again', { skip }, async (t) => {
  const broker = await startMosquitto(t, { config: ['allow_anonymous false'] })
  const { states } = open(t, broker.url.replace('mqtt://', 'mqtt://anna:wrong@'))
  const refused = await waitFor('three refusals', () => {
    const found = states.filter(({ phase }) => phase === 'refused')
    return found.length >= 3 && found
  })
  t.match(refused[0], { phase: 'refused', code: 0x87, reason: /not authorized/ })
})

t.test('shared subscriptions split the messages between two connections', { skip }, async (t) => {
  const broker = await startMosquitto(t)
  const subscriptions = [{ filter: '$share/bridge/plant/#', qos: 1 } as const]
  const [one, two] = ['one', 'two'].map((clientId) => open(t, broker.url, { clientId, clean: true, subscriptions }))
  if (one === undefined || two === undefined) throw new Error('unreachable')
  await Promise.all([subscribed(one.connection), subscribed(two.connection)])
  for (let i = 0; i < 100; i += 1) await one.connection.publish('plant/x', `${i}`, { qos: 1 })
  await waitFor('all', () => one.deliveries.length + two.deliveries.length === 100)
  t.ok(one.deliveries.length > 20 && two.deliveries.length > 20)
  t.equal(new Set([...one.texts(), ...two.texts()]).size, 100)
})

t.test('a broker that is killed and forgets everything is subscribed to again', { skip }, async (t) => {
  const broker = await startMosquitto(t)
  const { connection, deliveries, states } = open(t, broker.url)
  await subscribed(connection)
  await connection.publish('plant/x', 'before', { qos: 1 })
  await waitFor('it', () => deliveries.length === 1)
  await broker.kill()
  await waitFor('failed tries', () => states.filter(({ phase }) => phase === 'disconnected').length >= 3)
  await t.rejects(connection.publish('plant/x', 'meanwhile', { qos: 1 }), { code: 'connection_lost' })
  await broker.restart()
  await subscribed(connection)
  t.match(connection.state(), { protocolVersion: 5, sessionPresent: false })
  await connection.publish('plant/x', 'after', { qos: 1 })
  await waitFor('it', () => deliveries.length === 2)
})

t.test('a broker that stops and keeps its sessions brings what it had not delivered', { skip }, async (t) => {
  const broker = await startMosquitto(t, { persistence: true })
  const first = open(t, broker.url, { onDelivery() {} })
  await subscribed(first.connection)
  const sender = await mqtt.connectAsync(broker.url, { clientId: 'sender' })
  for (let i = 0; i < 10; i += 1) await sender.publishAsync('plant/x', `${i}`, { qos: i % 2 === 0 ? 1 : 2 })
  await waitFor('all in hand', () => first.connection.heldDeliveries() === 10)
  await sender.endAsync(true)
  await first.connection.close()
  await broker.stop()
  await broker.restart()
  const second = open(t, broker.url)
  await waitFor('all again', () => second.deliveries.length === 10)
  t.same(
    second.texts().sort(),
    Array.from({ length: 10 }, (_, i) => `${i}`)
  )
})

t.test('TLS: a certificate of the given authority is accepted, an unknown one is not', { skip }, async (t) => {
  const folder = t.testdir()
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'],
    ...['-keyout', join(folder, 'key'), '-out', join(folder, 'cert')]
  ])
  if (made.status !== 0) return t.fail('openssl could not make a certificate')
  const cert = readFileSync(join(folder, 'cert'), 'utf8')
  const broker = await startMosquitto(t, {
    config: ['certfile {folder}/cert', 'keyfile {folder}/key'],
    files: { cert, key: readFileSync(join(folder, 'key'), 'utf8') }
  })
  const url = broker.url.replace('mqtt://', 'mqtts://')
  const trusting = open(t, url, { tls: { ca: cert } })
  await subscribed(trusting.connection)
  await trusting.connection.publish('plant/x', 'x', { qos: 1 })
  await waitFor('the message', () => trusting.deliveries.length === 1)
  const wary = open(t, url, { clientId: 'wary' })
  const failed = await waitFor('a refusal', () => wary.states.find(({ phase }) => phase === 'disconnected'))
  t.match(failed, { reason: /self-signed certificate/ })
})
