import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import fc from 'fast-check'
import mqtt from 'mqtt'
import { generate, parser } from 'mqtt-packet'
import type { IConnectPacket, Packet } from 'mqtt-packet'
import t from 'tap'
import type { Test } from 'tap'
import { AppError } from '../../shared/errors.ts'
import { silentLog } from '../../shared/log.ts'
import { openConnection } from '../../shared/mqtt/connection.ts'
import type {
  ConnectionOptions,
  ConnectionState,
  Delivery,
  Done,
  MqttConnection
} from '../../shared/mqtt/connection.ts'
import { listen, startAedes } from '../helpers/aedes-broker.ts'
import { waitFor } from '../helpers/wait-for.ts'

/** One connection as a scripted broker sees it. */
type Peer = {
  version: number
  connect: IConnectPacket
  /** What came after CONNECT, without pings. */
  received: Packet[]
  chunks: number
  closed: boolean
  atMs: number
  socket: Socket
  send(packet: Packet): void
}

type Script = {
  /** Answers CONNECT; default: success. Null: no answer. */
  connack?: (peer: Peer, count: number) => Packet | null
  /** Answers pings and SUBSCRIBE; default true. */
  answers?: boolean
}

/** A broker made of hand-built packets. Speaks whatever version it is spoken to in. */
async function startScripted(t: Test, script: Script = {}): Promise<{ url: string; peers: Peer[] }> {
  const peers: Peer[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.setNoDelay(true)
    socket.on('error', () => {})
    const codec = parser()
    let peer: Peer | null = null
    codec.on('packet', (packet) => {
      if (packet.cmd === 'connect') {
        const version = packet.protocolVersion ?? 4
        const made: Peer = {
          version,
          connect: packet,
          received: [],
          chunks: 0,
          closed: false,
          atMs: performance.now(),
          socket,
          send: (answer) => socket.write(generate(answer, { protocolVersion: version }))
        }
        peer = made
        socket.on('close', () => (made.closed = true))
        peers.push(made)
        const connack = script.connack === undefined ? ok() : script.connack(made, peers.length)
        if (connack !== null) made.send(connack)
        return
      }
      if (peer === null) return
      if (packet.cmd !== 'pingreq') peer.received.push(packet)
      if (script.answers === false) return
      if (packet.cmd === 'pingreq') peer.send({ cmd: 'pingresp' })
      if (packet.cmd === 'subscribe') {
        peer.send({
          cmd: 'suback',
          messageId: packet.messageId ?? 0,
          granted: packet.subscriptions.map(({ qos }) => qos)
        })
      }
    })
    socket.on('data', (chunk) => {
      if (peer !== null) peer.chunks += 1
      codec.parse(chunk)
    })
  })
  const port = await listen(server)
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `mqtt://127.0.0.1:${port}`, peers }
}

function ok(sessionPresent = false): Packet {
  return { cmd: 'connack', returnCode: 0, reasonCode: 0, sessionPresent }
}

/** Speaks 3.1.1 only. */
function only311(peer: Peer, sessionPresent = false): Packet {
  return peer.version === 5
    ? { cmd: 'connack', returnCode: 1, reasonCode: 1, sessionPresent: false }
    : ok(sessionPresent)
}

function publishPacket(id: number, qos: 0 | 1 | 2, text = `m${id}`, dup = false): Packet {
  return { cmd: 'publish', topic: 'plant/x', payload: text, qos, dup, retain: false, messageId: id }
}

type Held = { delivery: Delivery; text: string; done: Done }

/** A connection whose deliveries are kept for the test to settle. */
function open(t: Test, url: string, more: Partial<ConnectionOptions> = {}) {
  const held: Held[] = []
  const states: ConnectionState[] = []
  const connection = openConnection({
    url,
    clientId: 'test',
    clean: false,
    receiveMaximum: 100,
    subscriptions: [{ filter: 'plant/#', qos: 2 }],
    retry: { baseMs: 5, capMs: 20 },
    onDelivery: (delivery, done) => held.push({ delivery, text: Buffer.from(delivery.payload).toString(), done }),
    onState: (state) => states.push(state),
    log: silentLog(),
    ...more
  })
  t.teardown(() => connection.close())
  return { connection, held, states, texts: () => held.map(({ text }) => text) }
}

function subscribed(connection: MqttConnection): Promise<unknown> {
  return waitFor('the subscription', () => {
    const state = connection.state()
    return state.phase === 'connected' && state.subscribed
  })
}

function at<T>(list: readonly T[], index: number): T {
  const item = list.at(index)
  if (item === undefined) throw new Error(`nothing at ${index} of ${list.length}`)
  return item
}

/** Acknowledgements in the order in which they came, such as `puback 1`. */
function acks(peer: Peer): string[] {
  return peer.received.filter(({ cmd }) => cmd.startsWith('pub')).map(({ cmd, messageId }) => `${cmd} ${messageId}`)
}

function peerAt(peers: Peer[], index: number): Promise<Peer> {
  return waitFor(`connection ${index}`, () => peers[index])
}

function reasons(states: ConnectionState[]): string[] {
  return states.flatMap((state) => (state.phase === 'disconnected' || state.phase === 'refused' ? [state.reason] : []))
}

t.test('CONNECT carries what was asked for', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection } = open(t, url.replace('mqtt://', 'mqtt://anna:s%2Fcret@'), {
    will: { topic: 'gone', payload: 'bye', qos: 1, retain: true },
    keepAliveS: 7,
    receiveMaximum: 321,
    maxPacketBytes: 5_000
  })
  await subscribed(connection)
  const { connect } = at(peers, 0)
  t.match(connect, { clientId: 'test', clean: false, keepalive: 7, username: 'anna', protocolVersion: 5 })
  t.equal(String(connect.password), 's/cret')
  t.match(connect.will, { topic: 'gone', qos: 1, retain: true })
  t.equal(String(connect.will?.payload), 'bye')
  t.same({ ...connect.properties }, { sessionExpiryInterval: 604_800, receiveMaximum: 321, maximumPacketSize: 5_000 })
  t.match(connection.state(), {
    phase: 'connected',
    protocolVersion: 5,
    sessionPresent: false,
    sharedSubscriptions: true
  })
})

t.test('a configuration that makes no sense is refused at once, without showing the password', async (t) => {
  const { url } = await startScripted(t)
  for (const bad of ['http://x', 'mqtt://', 'nonsense', 'mqtt://anna:s3cr%ZZ@host']) {
    t.throws(() => open(t, bad), { code: 'config_invalid' }, bad)
    try {
      open(t, bad)
    } catch (error) {
      t.notMatch(String(error), /s3cr/)
    }
  }
  for (const receiveMaximum of [0, 65_536, 1.5]) {
    t.throws(() => open(t, url, { receiveMaximum }), { code: 'config_invalid' }, String(receiveMaximum))
  }
})

t.test('a broker that answers that it speaks only 3.1.1 gets that from then on', async (t) => {
  for (const code of [1, 0x84]) {
    const { url, peers } = await startScripted(t, {
      connack: (peer) =>
        peer.version === 5 ? { cmd: 'connack', returnCode: code, reasonCode: code, sessionPresent: false } : ok()
    })
    const { connection, states } = open(t, url)
    await subscribed(connection)
    t.match(connection.state(), { protocolVersion: 4, sharedSubscriptions: false })
    at(peers, -1).socket.destroy()
    await peerAt(peers, 2)
    await subscribed(connection)
    t.same(
      peers.map(({ version }) => version),
      [5, 4, 4]
    )
    t.equal(reasons(states).length, 1, 'the fallback is no failure')
  }
})

t.test('a broker that breaks off at MQTT 5 gets 3.1.1 for the next try', async (t) => {
  const { url, peers } = await startScripted(t, {
    connack: (peer) => {
      if (peer.version === 4) return ok()
      peer.socket.destroy()
      return null
    }
  })
  const { connection } = open(t, url)
  await subscribed(connection)
  t.same(
    peers.map(({ version }) => version),
    [5, 4]
  )
})

t.test('an unreachable broker does not count as one without MQTT 5', async (t) => {
  const server = createServer()
  const port = await listen(server)
  await new Promise((resolve) => server.close(resolve))
  const { states } = open(t, `mqtt://127.0.0.1:${port}`)
  await waitFor('three failures', () => reasons(states).length >= 3)
  t.match(reasons(states)[0], /ECONNREFUSED/)
  const late = createServer()
  const versions: number[] = []
  late.on('connection', (socket) => {
    socket.on('error', () => {})
    parser()
      .on('packet', (packet) => packet.cmd === 'connect' && versions.push(packet.protocolVersion ?? 0))
      .parse(Buffer.alloc(0))
    socket.on('data', (chunk) => versions.push(chunk[8] ?? 0))
  })
  await new Promise<void>((resolve) => late.listen(port, '127.0.0.1', resolve))
  t.teardown(() => late.close())
  await waitFor('a CONNECT', () => versions.length > 0)
  t.equal(versions[0], 5)
})

t.test('deliveries are handed over before the first is done, and acknowledged in order of arrival', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held, texts } = open(t, url)
  await subscribed(connection)
  const peer = at(peers, 0)
  for (let id = 1; id <= 50; id += 1) peer.send(publishPacket(id, id % 2 === 0 ? 2 : 1))
  await waitFor('all deliveries', () => held.length === 50)
  t.same(
    texts(),
    Array.from({ length: 50 }, (_, i) => `m${i + 1}`)
  )
  t.equal(connection.heldDeliveries(), 50)
  for (const { done } of held.slice(1).reverse()) done(null)
  peer.send({ cmd: 'publish', topic: 'plant/x', payload: 'late', qos: 0, dup: false, retain: true })
  await waitFor('the late one', () => held.length === 51)
  t.same(acks(peer), [], 'nothing overtakes the first')
  t.match(at(held, 50).delivery, { qos: 0, packetId: null, retained: true, duplicate: false })
  at(held, 0).done(null)
  await waitFor('all acknowledgements', () => acks(peer).length === 50)
  t.same(
    acks(peer),
    Array.from({ length: 50 }, (_, i) => `${i % 2 === 1 ? 'pubrec' : 'puback'} ${i + 1}`)
  )
  at(held, 50).done(null)
  await waitFor('empty hands', () => connection.heldDeliveries() === 0)
})

t.test('acknowledgements of one turn travel together', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held } = open(t, url, { receiveMaximum: 2_000 })
  await subscribed(connection)
  const peer = at(peers, 0)
  for (let id = 1; id <= 2_000; id += 1) peer.send(publishPacket(id, 1))
  await waitFor('all deliveries', () => held.length === 2_000)
  const before = peer.chunks
  for (const { done } of held) done(null)
  await waitFor('all acknowledgements', () => acks(peer).length === 2_000)
  t.ok(peer.chunks - before <= 4, `${peer.chunks - before} reads for 2,000 acknowledgements`)
})

t.test('on 3.1.1 no more than receiveMaximum are handed over, and the socket is not read', async (t) => {
  const { url, peers } = await startScripted(t, { connack: (peer) => only311(peer) })
  const waiting: Done[] = []
  const ids: (number | null)[] = []
  let most = 0
  const { connection } = open(t, url, {
    receiveMaximum: 10,
    onDelivery(delivery, done) {
      ids.push(delivery.packetId)
      if (waiting.push(done) > most) most = waiting.length
    }
  })
  await subscribed(connection)
  const peer = at(peers, -1)
  const count = 10_000
  for (let id = 1; id <= count; id += 1) peer.send(publishPacket(id, 1, `${id}`.padEnd(1_000)))
  await waitFor('a full pipe', () => peer.socket.writableLength > 1_000_000 && waiting.length === 10)
  const pump = setInterval(() => {
    for (let i = 0; i < 100 && waiting.length > 0; i += 1) queueMicrotask(() => waiting.shift()?.(null))
  })
  t.teardown(() => clearInterval(pump))
  await waitFor('all deliveries', () => ids.length === count)
  t.equal(most, 10)
  t.same(
    ids,
    Array.from({ length: count }, (_, i) => i + 1)
  )
  await waitFor('all acknowledgements', () => acks(peer).length === count)
})

t.test('payload bytes in hand are limited too', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held } = open(t, url, { maxHeldBytes: 100_000 })
  await subscribed(connection)
  const peer = at(peers, 0)
  for (let id = 1; id <= 20; id += 1) peer.send(publishPacket(id, 1, 'x'.repeat(40_000)))
  await waitFor('the first ones', () => held.length >= 3)
  await connection.publish('other', 'still answered', { qos: 0 })
  t.equal(held.length, 3)
  at(held, 0).done(null)
  await waitFor('one more', () => held.length === 4)
})

t.test('a publish is acknowledged while the hands are full, so an owner may wait for it', async (t) => {
  const { url, peers } = await startScripted(t, { connack: (peer) => only311(peer) })
  const { connection, held } = open(t, url, { receiveMaximum: 1 })
  await subscribed(connection)
  const peer = at(peers, -1)
  for (let id = 1; id <= 20; id += 1) peer.send(publishPacket(id, 1))
  await waitFor('the first', () => held.length === 1)
  const published = connection.publish('answer', 'x', { qos: 1 })
  const packet = await waitFor('the publish', () => peer.received.find(({ cmd }) => cmd === 'publish'))
  peer.send({ cmd: 'puback', messageId: packet.messageId ?? 0 })
  await published
  t.equal(held.length, 1)
})

t.test('a delivery that fails is not acknowledged: the connection closes, comes back, and gets it again', async (t) => {
  const { url, peers } = await startScripted(t, { connack: (_, count) => ok(count > 1) })
  const { connection, held, states } = open(t, url)
  await subscribed(connection)
  const first = at(peers, 0)
  for (const id of [1, 2, 3]) first.send(publishPacket(id, 1))
  await waitFor('three deliveries', () => held.length === 3)
  at(held, 0).done(null)
  at(held, 1).done(new Error('the disk is gone'))
  at(held, 1).done(null)
  at(held, 2).done(null)
  const second = await peerAt(peers, 1)
  t.same(
    acks(first).filter((ack) => ack !== 'puback 1'),
    []
  )
  t.match(reasons(states)[0], /the disk is gone/)
  await subscribed(connection)
  second.send(publishPacket(2, 1, 'm2', true))
  await waitFor('the second time', () => held.length === 4)
  t.match(at(held, 3), { text: 'm2', delivery: { duplicate: true } })
  at(held, 3).done(null)
  await waitFor('its acknowledgement', () => acks(second).includes('puback 2'))
})

t.test('a handler that throws ends the connection, not the process', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, states } = open(t, url, {
    onDelivery() {
      throw new Error('a defect')
    }
  })
  await subscribed(connection)
  at(peers, 0).send(publishPacket(1, 1))
  await peerAt(peers, 1)
  t.match(reasons(states)[0], /a defect/)
})

t.test('a message sent again while its first delivery is in work is not handed over again', async (t) => {
  const { url, peers } = await startScripted(t, { connack: (_, count) => ok(count > 1) })
  const { connection, held } = open(t, url)
  await subscribed(connection)
  for (const [id, qos] of [
    [1, 1],
    [2, 2],
    [3, 1]
  ] as const)
    at(peers, 0).send(publishPacket(id, qos))
  await waitFor('three deliveries', () => held.length === 3)
  at(peers, 0).socket.destroy()
  const second = await peerAt(peers, 1)
  await subscribed(connection)
  second.send(publishPacket(1, 1, 'm1', true))
  second.send(publishPacket(2, 2, 'm2', true))
  second.send(publishPacket(3, 1, 'another message under this id'))
  await waitFor('the other message', () => held.length === 4)
  t.equal(at(held, 3).text, 'another message under this id')
  t.equal(connection.heldDeliveries(), 6)
  for (const { done } of held) done(null)
  await waitFor('all acknowledgements', () => acks(second).length === 3)
  t.same(acks(second), ['puback 1', 'pubrec 2', 'puback 3'])
  await waitFor('empty hands', () => connection.heldDeliveries() === 0)
})

t.test('deliveries of a lost connection still count against receiveMaximum', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held } = open(t, url, { receiveMaximum: 2 })
  await subscribed(connection)
  for (const id of [1, 2]) at(peers, 0).send(publishPacket(id, 1))
  await waitFor('two deliveries', () => held.length === 2)
  at(peers, 0).socket.destroy()
  const second = await peerAt(peers, 1)
  await subscribed(connection)
  for (const id of [1, 2]) second.send(publishPacket(id, 1, `new ${id}`))
  await connection.publish('other', 'x', { qos: 0 })
  t.equal(held.length, 2)
  at(held, 0).done(null)
  await waitFor('the third', () => held.length === 3)
  t.equal(at(held, 2).text, 'new 1')
  at(held, 1).done(new Error('too late to matter'))
  await waitFor('the fourth', () => held.length === 4)
  t.equal(peers.length, 2, 'an old failure does not hurt the new connection')
})

t.test('QoS 2: PUBREC after done, once until PUBREL, then PUBCOMP, and the id is free again', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held, texts } = open(t, url)
  await subscribed(connection)
  const peer = at(peers, 0)
  peer.send(publishPacket(7, 2))
  peer.send(publishPacket(7, 2, 'm7', true))
  await waitFor('the delivery', () => held.length === 1)
  at(held, 0).done(null)
  await waitFor('PUBREC', () => acks(peer).length === 1)
  peer.send(publishPacket(7, 2, 'm7', true))
  await waitFor('PUBREC again', () => acks(peer).length === 2)
  peer.send({ cmd: 'pubrel', messageId: 7 })
  await waitFor('PUBCOMP', () => acks(peer).length === 3)
  peer.send(publishPacket(7, 2, 'new'))
  await waitFor('the next message', () => held.length === 2)
  t.same(texts(), ['m7', 'new'])
  t.same(acks(peer), ['pubrec 7', 'pubrec 7', 'pubcomp 7'])
})

t.test('a PUBREL of an unknown id is confirmed', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection } = open(t, url)
  await subscribed(connection)
  at(peers, 0).send({ cmd: 'pubrel', messageId: 9 })
  await waitFor('PUBCOMP', () => acks(at(peers, 0)).includes('pubcomp 9'))
})

t.test('another QoS 2 message under an id that is still pending is not taken for a repeat', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held, texts } = open(t, url)
  await subscribed(connection)
  const peer = at(peers, 0)
  peer.send(publishPacket(7, 2, 'one'))
  await waitFor('the delivery', () => held.length === 1)
  at(held, 0).done(null)
  await waitFor('PUBREC', () => acks(peer).length === 1)
  peer.send(publishPacket(7, 2, 'two'))
  await waitFor('the other', () => held.length === 2)
  at(held, 1).done(null)
  await waitFor('PUBREC', () => acks(peer).length === 2)
  t.same(texts(), ['one', 'two'])
})

t.test('QoS 2 ids outlive the connection while the session does, and no longer', async (t) => {
  let sessionPresent = false
  const { url, peers } = await startScripted(t, { connack: () => ok(sessionPresent) })
  const { connection, held } = open(t, url)
  await subscribed(connection)
  at(peers, 0).send(publishPacket(7, 2))
  await waitFor('the delivery', () => held.length === 1)
  at(held, 0).done(null)
  await waitFor('PUBREC', () => acks(at(peers, 0)).length === 1)
  sessionPresent = true
  at(peers, 0).socket.destroy()
  const second = await peerAt(peers, 1)
  await subscribed(connection)
  second.send(publishPacket(7, 2, 'm7', true))
  await waitFor('PUBREC', () => acks(second).length === 1)
  t.equal(held.length, 1)
  sessionPresent = false
  second.socket.destroy()
  const third = await peerAt(peers, 2)
  await subscribed(connection)
  third.send(publishPacket(7, 2, 'of a new session'))
  await waitFor('the delivery', () => held.length === 2)
})

t.test('QoS 2 ids that the owner keeps outlive the process', async (t) => {
  const { url, peers } = await startScripted(t, { connack: () => ok(true) })
  const stored = new Set([7])
  const released: number[] = []
  const { connection, held } = open(t, url, {
    incoming: {
      isPending: (id) => stored.has(id),
      release(id, done) {
        released.push(id)
        setTimeout(() => {
          stored.delete(id)
          done(null)
        }, 20)
      },
      clear: () => stored.clear()
    }
  })
  await subscribed(connection)
  const peer = at(peers, 0)
  peer.send(publishPacket(7, 2, 'm7', true))
  await waitFor('PUBREC', () => acks(peer).length === 1)
  peer.send({ cmd: 'pubrel', messageId: 7 })
  await waitFor('the release', () => released.length === 1)
  t.same(acks(peer), ['pubrec 7'], 'no PUBCOMP before the release is durable')
  await waitFor('PUBCOMP', () => acks(peer).length === 2)
  t.equal(held.length, 0)
  peer.send(publishPacket(7, 2, 'new'))
  await waitFor('the next message', () => held.length === 1)
})

t.test('a release that fails ends the connection and is asked for again', async (t) => {
  const { url, peers } = await startScripted(t, { connack: () => ok(true) })
  let fails = true
  const { connection } = open(t, url, {
    incoming: { isPending: () => true, release: (_id, done) => done(fails ? new Error('no disk') : null), clear() {} }
  })
  await subscribed(connection)
  at(peers, 0).send({ cmd: 'pubrel', messageId: 7 })
  const second = await peerAt(peers, 1)
  await subscribed(connection)
  t.same(acks(at(peers, 0)), [])
  fails = false
  second.send({ cmd: 'pubrel', messageId: 7 })
  await waitFor('PUBCOMP', () => acks(second).length === 1)
})

t.test(
  'after a lost session the ids are cleared before the subscription, once all old deliveries are done',
  async (t) => {
    let sessionPresent = true
    const { url, peers } = await startScripted(t, { connack: () => ok(sessionPresent) })
    const stored = new Set<number>()
    const order: string[] = []
    const { connection, held } = open(t, url, {
      incoming: {
        isPending: (id) => stored.has(id),
        release: (_id, done) => done(null),
        async clear() {
          await new Promise((resolve) => setTimeout(resolve, 20))
          stored.clear()
          order.push('cleared')
        }
      }
    })
    await subscribed(connection)
    at(peers, 0).send(publishPacket(7, 2))
    await waitFor('the delivery', () => held.length === 1)
    sessionPresent = false
    at(peers, 0).socket.destroy()
    await peerAt(peers, 1)
    await waitFor('the connection', () => connection.state().phase === 'connected')
    sessionPresent = true
    at(peers, 1).socket.destroy()
    const third = await peerAt(peers, 2)
    await waitFor('the connection', () => connection.state().phase === 'connected')
    await connection.publish('other', 'x', { qos: 0 })
    t.notOk(
      third.received.some(({ cmd }) => cmd === 'subscribe'),
      'an old delivery is not done yet'
    )
    stored.add(7)
    at(held, 0).done(null)
    await waitFor('SUBSCRIBE', () => third.received.some(({ cmd }) => cmd === 'subscribe'))
    t.same(order, ['cleared'])
    third.send(publishPacket(7, 2, 'of a new session'))
    await waitFor('the delivery', () => held.length === 2)
  }
)

t.test('filters that are no longer configured are unsubscribed in a resumed session', async (t) => {
  const { url, peers } = await startScripted(t, { connack: () => ok(true) })
  const { connection } = open(t, url, { knownFilters: ['plant/#', 'old/#'] })
  await subscribed(connection)
  t.match(at(peers, 0).received, [
    { cmd: 'unsubscribe', unsubscriptions: ['old/#'] },
    { cmd: 'subscribe', subscriptions: [{ topic: 'plant/#', qos: 2 }] }
  ])
})

t.test('a refused subscription is reported with its filter', async (t) => {
  const { url, peers } = await startScripted(t, { answers: false })
  const { connection } = open(t, url, {
    subscriptions: [
      { filter: 'a/#', qos: 1 },
      { filter: 'secret/#', qos: 1 }
    ]
  })
  await waitFor('SUBSCRIBE', () => peers[0]?.received.length === 1)
  at(peers, 0).send({ cmd: 'suback', messageId: at(at(peers, 0).received, 0).messageId ?? 0, granted: [1, 0x87] })
  await subscribed(connection)
  t.match(connection.state(), { refusedFilters: [{ filter: 'secret/#', reason: 'not authorized' }] })
})

t.test('a refused CONNACK is tried again for ever, with growing waits', async (t) => {
  const { url, peers } = await startScripted(t, {
    connack: (_, count) =>
      count > 5 ? ok() : { cmd: 'connack', reasonCode: 0x86, returnCode: 0, sessionPresent: false }
  })
  const { connection, states } = open(t, url, { retry: { baseMs: 20, capMs: 100 }, random: () => 1 })
  await subscribed(connection)
  t.same(reasons(states), Array(5).fill('user name or password is wrong'))
  t.match(
    states.find(({ phase }) => phase === 'refused'),
    { code: 0x86 }
  )
  const gaps = peers.slice(1).map((peer, i) => peer.atMs - at(peers, i).atMs)
  for (const [i, atLeastMs] of [20, 40, 80, 100, 100].entries())
    t.ok(at(gaps, i) >= atLeastMs - 2, `gap ${i}: ${at(gaps, i)} ms`)
})

t.test('a broker that falls silent is given up within 1.5 keep-alives', async (t) => {
  const { url, peers } = await startScripted(t, { answers: false })
  const { states } = open(t, url, { keepAliveS: 1, subscriptions: [] })
  const first = await peerAt(peers, 0)
  await waitFor('the end of patience', () => reasons(states).length === 1)
  const passedMs = performance.now() - first.atMs
  t.match(reasons(states)[0], /silent/)
  t.ok(passedMs < 1_650, `after ${passedMs} ms`)
})

t.test('a connection that is not read for full hands is kept alive', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held, states } = open(t, url, { keepAliveS: 1, receiveMaximum: 1 })
  await subscribed(connection)
  const peer = at(peers, 0)
  for (let id = 1; id <= 5_000; id += 1) peer.send(publishPacket(id, 1, 'x'.repeat(1_000)))
  await waitFor('the first', () => held.length === 1)
  const until = performance.now() + 2_000
  await waitFor('two keep-alives to pass', () => performance.now() > until)
  t.same(reasons(states), [])
  at(held, 0).done(null)
  await waitFor('the second', () => held.length === 2)
  t.same(reasons(states), [])
})

t.test('a broker that gives no CONNACK is given up', async (t) => {
  const { url, peers } = await startScripted(t, { connack: () => null })
  const { states } = open(t, url, { connectTimeoutMs: 50 })
  await peerAt(peers, 1)
  t.match(reasons(states)[0], /no answer within 50 ms/)
})

t.test('a session taken over says that another client has the same id', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, states } = open(t, url)
  await subscribed(connection)
  at(peers, 0).send({ cmd: 'disconnect', reasonCode: 0x8e })
  await peerAt(peers, 1)
  t.match(reasons(states)[0], /another client connected with the same client id/)
})

t.test('what a broker may not send ends the connection with a reason', async (t) => {
  const huge = Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 65])
  const cases: [string, Buffer, RegExp][] = [
    ['a packet of 256 MB', huge, /268435460 bytes is over the limit of 1048576/],
    ['a length of five bytes', Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 1]), /more than four bytes/],
    ['a publish without a packet id', Buffer.from([0x32, 3, 0, 1, 65]), /malformed/],
    ['a publish with packet id 0', Buffer.from([0x32, 6, 0, 1, 65, 0, 0, 0]), /malformed/],
    ['a publish whose topic is longer than itself', Buffer.from([0x30, 4, 0, 200, 65, 65]), /malformed/],
    ['a publish without a topic', Buffer.from([0x30, 3, 0, 0, 0]), /malformed/],
    ['both QoS bits', Buffer.from([0x36, 6, 0, 1, 65, 0, 1, 0]), /malformed/],
    ['a PUBREL without an id', Buffer.from([0x62, 0]), /malformed/],
    ['a packet of type 0', Buffer.from([0x00, 0]), /malformed|unexpected/],
    ['a second CONNACK', Buffer.from([0x20, 3, 0, 0, 0]), /unexpected connack/],
    [
      'a CONNECT',
      generate({ cmd: 'connect', clientId: 'x', protocolId: 'MQTT', protocolVersion: 5, clean: true, keepalive: 1 }),
      /unexpected connect/
    ]
  ]
  for (const [what, bytes, reason] of cases) {
    const { url, peers } = await startScripted(t)
    const { connection, held, states } = open(t, url)
    await subscribed(connection)
    at(peers, 0).socket.write(Buffer.concat([bytes, generate(publishPacket(5, 1), { protocolVersion: 5 })]))
    await waitFor(`the end after ${what}`, () => reasons(states).length > 0)
    t.match(reasons(states)[0], reason, what)
    t.equal(held.length, 0, `nothing is taken after ${what}`)
    await connection.close()
  }
})

t.test('a connection that breaks in the middle of a packet delivers nothing of it', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held } = open(t, url)
  await subscribed(connection)
  const bytes = generate(publishPacket(1, 1, 'x'.repeat(500)), { protocolVersion: 5 })
  at(peers, 0).socket.end(bytes.subarray(0, 300))
  await peerAt(peers, 1)
  await subscribed(connection)
  t.equal(held.length, 0)
  for (const byte of bytes) at(peers, 1).socket.write(Buffer.of(byte))
  await waitFor('the packet, byte by byte', () => held.length === 1)
  t.equal(at(held, 0).text.length, 500)
})

t.test('random bytes from a broker never end more than the connection', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection } = open(t, url, { subscriptions: [], retry: { baseMs: 0, capMs: 0 }, maxPacketBytes: 4_096 })
  let rounds = 0
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (bytes) => {
      const count = peers.length
      await waitFor('a connection', () => connection.state().phase === 'connected' && !at(peers, -1).closed)
      at(peers, -1).socket.end(bytes)
      await waitFor('the next connection', () => peers.length > count || at(peers, -1).closed)
      rounds += 1
    }),
    { numRuns: 60, seed: 1 }
  )
  t.equal(rounds, 60)
})

t.test('a publish resolves at its PUBACK and fails with its connection', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection } = open(t, url, { subscriptions: [] })
  await t.rejects(connection.publish('a', 'too early', { qos: 1 }), { code: 'connection_lost' })
  await subscribed(connection)
  const peer = at(peers, 0)
  let resolved = 0
  const first = connection.publish('a', 'one', { qos: 1, retain: true }).then(() => (resolved += 1))
  const second = connection.publish('a', Buffer.from('two'), { qos: 1 })
  const sent = await waitFor('two publishes', () => peer.received.length === 2 && peer.received)
  t.match(sent, [{ cmd: 'publish', qos: 1, retain: true, topic: 'a' }, { retain: false }])
  t.equal(resolved, 0)
  peer.send({ cmd: 'puback', messageId: at(sent, 0).messageId ?? 0 })
  await first
  peer.send({ cmd: 'puback', messageId: at(sent, 1).messageId ?? 0, reasonCode: 0x87 })
  await t.rejects(second, { code: 'connection_refused', message: /not authorized/ })
  await connection.publish('a', 'three', { qos: 0 })
  const lost = connection.publish('a', 'four', { qos: 1 })
  peer.socket.destroy()
  await t.rejects(lost, { code: 'connection_lost' })
  await t.rejects(connection.publish('a/#', 'x', { qos: 0 }), AppError)
})

t.test('the limits that a broker announces are kept', async (t) => {
  const { url, peers } = await startScripted(t, {
    connack: () => ({
      cmd: 'connack',
      reasonCode: 0,
      sessionPresent: false,
      properties: {
        receiveMaximum: 3,
        maximumPacketSize: 200,
        retainAvailable: false,
        sharedSubscriptionAvailable: false
      }
    })
  })
  const { connection } = open(t, url, { subscriptions: [] })
  await subscribed(connection)
  const peer = at(peers, 0)
  t.match(connection.state(), { sharedSubscriptions: false })
  const all = Promise.all(
    Array.from({ length: 10 }, (_, i) => connection.publish('a', `${i}`, { qos: 1, retain: true }))
  )
  await connection.publish('b', 'after them', { qos: 0 })
  await waitFor('the QoS 0 message', () => peer.received.some((packet) => packet.cmd === 'publish' && packet.qos === 0))
  t.equal(peer.received.length, 4)
  t.match(peer.received, Array(4).fill({ retain: false }))
  let answered = 0
  await waitFor('all ten', () => {
    for (; answered < peer.received.length; answered += 1) {
      const packet = at(peer.received, answered)
      if (packet.messageId !== undefined) peer.send({ cmd: 'puback', messageId: packet.messageId })
    }
    return answered === 11
  })
  await all
  await t.rejects(connection.publish('a', 'x'.repeat(200), { qos: 1 }), {
    code: 'connection_refused',
    message: /200 at most/
  })
})

t.test(
  'closing takes nothing more, waits for what was taken to be done, acknowledges it, then sends DISCONNECT',
  async (t) => {
    const { url, peers } = await startScripted(t)
    const { connection, held, states } = open(t, url)
    await subscribed(connection)
    for (const id of [1, 2]) at(peers, 0).send(publishPacket(id, 1))
    await waitFor('two deliveries', () => held.length === 2)
    const waiting = connection.publish('a', 'x', { qos: 1 })
    at(held, 0).done(null)
    const closed = connection.close()
    at(peers, 0).send(publishPacket(3, 1))
    await waitFor('the first acknowledgement', () => at(peers, 0).received.some(({ cmd }) => cmd === 'puback'))
    at(held, 1).done(null)
    await t.rejects(waiting, { code: 'connection_lost' })
    await Promise.all([closed, connection.close()])
    await waitFor('the end', () => at(peers, 0).closed)
    t.same(
      at(peers, 0)
        .received.slice(-3)
        .map(({ cmd }) => cmd),
      ['puback', 'puback', 'disconnect']
    )
    t.equal(held.length, 2)
    t.same(at(states, -1), { phase: 'closed' })
    t.equal(peers.length, 1)
  }
)

t.test('closing lets be what is not done in time', async (t) => {
  const { url, peers } = await startScripted(t)
  const { connection, held } = open(t, url)
  await subscribed(connection)
  at(peers, 0).send(publishPacket(1, 1))
  await waitFor('a delivery', () => held.length === 1)
  await connection.close()
  at(held, 0).done(null)
  await waitFor('the end', () => at(peers, 0).closed)
  t.notOk(at(peers, 0).received.some(({ cmd }) => cmd === 'puback'))
})

t.test('closing works while connecting and between tries', async (t) => {
  const { url, peers } = await startScripted(t, { connack: () => null })
  const connecting = open(t, url).connection
  await peerAt(peers, 0)
  await connecting.close()
  const waiting = open(t, 'mqtt://127.0.0.1:1', {
    retry: { baseMs: 60_000, capMs: 60_000 },
    random: () => 1
  }).connection
  await waitFor('a failure', () => waiting.state().phase === 'disconnected')
  await waiting.close()
  const unborn = open(t, url).connection
  await unborn.close()
  t.equal(peers.length, 1)
})

t.test('aedes: every QoS arrives, and a persistent session brings what came while away', async (t) => {
  const broker = await startAedes(t)
  const { connection, held, texts } = open(t, broker.url)
  await subscribed(connection)
  const sender = mqtt.connect(broker.url, { clientId: 'sender' })
  t.teardown(() => sender.endAsync(true))
  for (const qos of [0, 1, 2] as const) await sender.publishAsync('plant/x', `qos ${qos}`, { qos })
  await waitFor('three deliveries', () => held.length === 3)
  t.same(
    held.map(({ text, delivery }) => [text, delivery.qos]),
    [
      ['qos 0', 0],
      ['qos 1', 1],
      ['qos 2', 2]
    ]
  )
  for (const { done } of held) done(null)
  await waitFor('empty hands', () => connection.heldDeliveries() === 0)
  await connection.close()
  for (let i = 0; i < 10; i += 1) await sender.publishAsync('plant/x', `away ${i}`, { qos: 1 })
  const again = open(t, broker.url)
  await waitFor('what came while away', () => again.held.length === 10)
  for (const { done } of again.held) done(null)
  t.match(again.connection.state(), { sessionPresent: true })
  t.same(
    again.texts().sort(),
    Array.from({ length: 10 }, (_, i) => `away ${i}`)
  )
  t.equal(texts().length, 3)
})
