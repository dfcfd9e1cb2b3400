// The embedded broker: the door for sensors that publish to the edge itself.
//
// - QoS 1: PUBACK when the records are on the disk. aedes writes it before it hands the message to anyone, so the storing
//   stands in `authorizePublish`, the only place before it.
// - QoS 2: PUBREC when the records and the packet id are on the disk, in one transaction; PUBCOMP when the id is forgotten.
// - What can't be stored isn't acknowledged: the connection is closed, and the client sends again.
// - What is kept for subscribers is bounded (broker-memory.ts).
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { Aedes } from 'aedes'
import type { Client, PublishPacket } from 'aedes'
import { AppError, codeOf, messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import { guardSocket } from '../../shared/mqtt/guard.ts'
import { createReadGate } from '../../shared/mqtt/read-gate.ts'
import { pause } from '../../shared/retry.ts'
import type { DoorState } from '../../shared/status.ts'
import type { Intake } from '../intake.ts'
import { messageDigest } from '../packets.ts'
import type { Packets } from '../packets.ts'
import { createPersistence, keyOf } from './broker-memory.ts'
import { createPressure } from './pressure.ts'
import type { Pressure } from './pressure.ts'

export type BrokerDoor = {
  port: number
  state(): DoorState
  figures(): { connections: number; refusedConnections: number }
  /** Takes nothing more, answers what was taken, and disconnects. */
  close(): Promise<void>
}

/** A subscriber that doesn't read for this long is cut: it must not hold up the others. */
const DRAIN_TIMEOUT_MS = 5_000
/** How long closing waits for the answers to what was taken. */
const LAST_ANSWERS_MS = 2_000
const POLL_MS = 10
const MAX_CONNECTIONS = 10_000
const MAX_CLIENT_ID_LENGTH = 256

/** @throws AppError `port_in_use` and other reasons why the port can't be listened on. */
export async function openBrokerDoor(options: {
  host: string
  port: number
  intake: Intake
  packets: Packets
  log: Log
}): Promise<BrokerDoor> {
  const { intake, packets, log } = options
  const sockets = new Set<Socket>()
  const pressures = new WeakMap<object, Pressure>()
  let messages = 0
  /** Publishes whose records are on their way to the disk. */
  let waiting = 0
  let refusedConnections = 0

  const broker = new Aedes({
    persistence: createPersistence({ packets, log }),
    drainTimeout: DRAIN_TIMEOUT_MS,
    maxClientsIdLength: MAX_CLIENT_ID_LENGTH,
    authorizePublish,
    authorizeSubscribe(_client, subscription, callback) {
      // aedes would grant a shared subscription and then deliver nothing to it.
      callback(null, subscription.topic.startsWith('$share/') ? null : subscription)
    }
  })
  broker.on('connectionError', (_client, error) =>
    log.debug({ reason: error.message }, 'a connection failed before CONNECT')
  )
  broker.on('clientError', (client, error) =>
    log.info({ client: client.id, reason: error.message }, 'a client was disconnected')
  )
  await broker.listen()

  function authorizePublish(
    client: Client | null,
    packet: PublishPacket,
    callback: (error?: Error | null) => void
  ): void {
    if (client === null) return callback(null)
    if (packet.topic.startsWith('$SYS/')) return callback(new Error('$SYS is the broker’s own'))
    messages += 1
    const { topic, qos } = packet
    const payload = Buffer.from(packet.payload)
    if (qos === 0) {
      intake.take({ topic, payload, qos, replayed: false, packet: null }, () => undefined)
      return callback(null)
    }
    waiting += 1
    const done = pressureOf(client).hold(payload.length, (error: AppError | null) => {
      waiting -= 1
      callback(error)
    })
    const id =
      qos === 2 && packet.messageId !== undefined
        ? { client: keyOf(client), packet: packet.messageId, digest: messageDigest(topic, payload) }
        : null
    if (id === null) intake.take({ topic, payload, qos, replayed: false, packet: null }, done)
    else packets.enter(id, (stored) => intake.take({ topic, payload, qos, replayed: false, packet: id }, stored), done)
  }

  function pressureOf(client: Client): Pressure {
    const pressure = pressures.get(client.conn)
    if (pressure === undefined) throw new Error('a client without a socket of this door')
    return pressure
  }

  intake.onRelief(() => {
    for (const socket of sockets) pressures.get(socket)?.relieve()
  })

  const server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    pressures.set(socket, createPressure(createReadGate(socket), intake))
    broker.handle(
      guardSocket(socket, {
        onRefused(reason) {
          refusedConnections += 1
          log.warn({ remote: socket.remoteAddress, reason }, 'a connection was refused')
        }
      })
    )
  })
  server.maxConnections = MAX_CONNECTIONS
  const port = await listen(server, options.host, options.port).catch((error: unknown) => {
    broker.close()
    throw error
  })
  server.on('error', (error) => log.warn({ err: error }, 'a connection was not taken'))
  log.info({ host: options.host, port }, 'broker listens')

  return {
    port,
    state: () => ({
      name: `broker on ${options.host}:${port}`,
      state: server.listening ? 'up' : 'down',
      detail: intake.isSaturated() ? 'waiting for the buffer' : null,
      messages
    }),
    figures: () => ({ connections: sockets.size, refusedConnections }),
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) pressures.get(socket)?.stop()
      // What was taken is acknowledged: it would be sent again, and what has no time of its own be stored twice.
      for (let waited = 0; waiting > 0 && waited < LAST_ANSWERS_MS; waited += POLL_MS) await pause(POLL_MS)
      await pause(0)
      await new Promise<void>((resolve) => broker.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
    }
  }
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const inUse = codeOf(error) === 'EADDRINUSE'
      const message = inUse
        ? `the broker's port ${port} on ${host} is in use`
        : `the broker can't listen on ${host}:${port}: ${messageOf(error)}`
      reject(
        new AppError('port_in_use', message, {
          hint: 'set EDGE_BROKER_PORT and EDGE_BROKER_HOST, or EDGE_BROKER=off',
          cause: error
        })
      )
    })
    server.listen(port, host, () => {
      const address: AddressInfo | string | null = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}
