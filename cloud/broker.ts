// The embedded broker, for a line without a broker of its own between edges and bridge.
//
// - Gateways publish `batch`, `status` and `latest`; only the bridge's own client, told apart by a secret made at each
//   start, publishes `ack` and `command` and receives batches. Nobody publishes anything else.
// - Nothing queues without limit: no session outlives its connection, batches pass a gate (broker-gate.ts), retained are
//   statuses only, of `MAX_RETAINED` gateways, and a subscriber that doesn't read is cut.
// Not guaranteed: that a message outlives the process. Edges send again what the bridge hasn't answered.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { Aedes } from 'aedes'
import type { Client, PublishPacket, Subscription } from 'aedes'
import { MAX_WIRE_BYTES } from '../shared/batch/envelope.ts'
import { AppError, codeOf, messageOf } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { guardSocket } from '../shared/mqtt/guard.ts'
import { filterOf, parseTopic } from '../shared/topics.ts'
import type { Channel } from '../shared/topics.ts'
import { createGate } from './broker-gate.ts'
import type { GateLimits } from './broker-gate.ts'

export type EmbeddedBroker = {
  port: number
  /** For the bridge's own clients, with the secret in it. */
  url: string
  figures(): BrokerFigures
  close(): Promise<void>
}

export type BrokerFigures = {
  connections: number
  /** Connections that the guard closed, or that were not let in. */
  refusedConnections: number
  /** Publishes that nobody may make. */
  refusedPublishes: number
  /** Batches on their way to the bridge, and what they wait for there. */
  passing: number
  passingBytes: number
  waiting: number
  /** Batches thrown away because the bridge took none; their edges send them again. */
  letGo: number
}

/** A client id that begins so belongs to the bridge. */
export const OWN_CLIENT_PREFIX = 'millrace-bridge'
/** The longest status of a gateway, bytes. */
export const MAX_STATUS_BYTES = 16_384

const MAX_RETAINED = 10_000
const MAX_LATEST_BYTES = 131_072
const MAX_CONNECTIONS = 2_000
/** Topic, packet id and header around a batch. */
const PACKET_OVERHEAD_BYTES = 1_024
/** A subscriber that doesn't read for this long is cut: it must not hold up the others. */
const DRAIN_TIMEOUT_MS = 5_000
const CONNECT_TIMEOUT_MS = 10_000
/** Visible ASCII without the characters that filters use. */
const CLIENT_ID = /^[!"$-*,-.0-~]{1,128}$/
const LOOPBACK = /^(?:localhost|127\.[\d.]+|::1)$/
/** Where batches go that are let go: nobody may subscribe to it. */
const NOWHERE = 'millrace/let-go'
/** What a gateway may read, its own or another's; batches are the bridge's alone. */
const READABLE: readonly Channel[] = ['ack', 'command', 'status', 'latest']

const LIMITS: GateLimits = { maxBatches: 128, maxBytes: 12 * 2 ** 20, maxWaitingBytes: 32 * 2 ** 20 }

/** @throws AppError `port_in_use` and other reasons why the port can't be listened on. */
export async function openBroker(options: {
  host: string
  port: number
  limits?: GateLimits
  log: Log
}): Promise<EmbeddedBroker> {
  const { log } = options
  const secret = randomBytes(24).toString('hex')
  const sockets = new Set<Socket>()
  const own = new WeakSet<Client>()
  const retained = new Set<string>()
  const gate = createGate<Client>({ ...(options.limits ?? LIMITS), clockMs: () => performance.now() })
  let refusedConnections = 0
  let refusedPublishes = 0

  const broker = new Aedes({
    drainTimeout: DRAIN_TIMEOUT_MS,
    connectTimeout: CONNECT_TIMEOUT_MS,
    preConnect(_client, packet, callback) {
      const { clientId, will } = packet
      const refusal =
        clientId === '' && !packet.clean
          ? 'an empty client id needs a clean session'
          : clientId !== '' && !CLIENT_ID.test(clientId)
            ? 'the client id must be 1 to 128 visible characters without + # /'
            : will !== undefined && parseTopic(will.topic)?.channel !== 'status'
              ? 'a will may only be a gateway’s status'
              : null
      if (refusal !== null) {
        refusedConnections += 1
        return callback(new Error(refusal), false)
      }
      // No session outlives its connection, so that nothing is queued for someone who may never come back.
      packet.clean = true
      callback(null, true)
    },
    authenticate(client, username, password, done) {
      const isOwn = username === OWN_CLIENT_PREFIX && password !== undefined && isSame(password, Buffer.from(secret))
      if (isOwn) own.add(client)
      else if (username === OWN_CLIENT_PREFIX || client.id.startsWith(OWN_CLIENT_PREFIX)) {
        refusedConnections += 1
        return done(null, false)
      }
      done(null, true)
    },
    authorizePublish,
    authorizeSubscribe(client, subscription, callback) {
      callback(null, own.has(client) || isReadable(subscription.topic) ? subscription : null)
    },
    authorizeForward(client, packet) {
      if (gate.isReceiver(client) && packet.payload instanceof Uint8Array) gate.sent(packet.payload)
      return packet
    }
  })
  broker.on('connectionError', (_client, error) =>
    log.debug({ reason: error.message }, 'a connection failed before CONNECT')
  )
  broker.on('clientError', (client, error) =>
    log.info({ client: client.id, reason: error.message }, 'a client was cut off')
  )
  broker.on('subscribe', (subscriptions: Subscription[], client) => {
    if (own.has(client) && subscriptions.some(({ topic }) => topic === filterOf('batch'))) gate.setReceiver(client)
  })
  broker.on('clientDisconnect', (client) => {
    if (gate.isReceiver(client)) gate.setReceiver(null)
    else gate.forget(client)
  })
  broker.on('ack', (_packet, client) => {
    if (gate.isReceiver(client)) gate.answered()
  })
  await broker.listen()

  function authorizePublish(
    client: Client | null,
    packet: PublishPacket,
    callback: (error?: Error | null) => void
  ): void {
    if (client === null) return callback(null)
    const channel = parseTopic(packet.topic)?.channel ?? null
    const refusal = own.has(client) ? refusalOfOwn(channel) : refusalOf(channel, packet)
    if (refusal !== null) {
      refusedPublishes += 1
      return callback(new Error(`publish to ${JSON.stringify(packet.topic.slice(0, 100))} refused: ${refusal}`))
    }
    packet.retain &&= channel === 'status' && mayRetain(packet)
    if (channel !== 'batch' || !(packet.payload instanceof Uint8Array)) return callback(null)
    gate.admit(client, packet.payload, (taken) => {
      if (!taken) packet.topic = NOWHERE
      callback(null)
    })
  }

  function mayRetain({ topic, payload }: PublishPacket): boolean {
    if (payload.length === 0) retained.delete(topic)
    else if (retained.size < MAX_RETAINED) retained.add(topic)
    return payload.length === 0 || retained.has(topic)
  }

  const server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    broker.handle(
      guardSocket(socket, {
        maxPacketBytes: MAX_WIRE_BYTES + PACKET_OVERHEAD_BYTES,
        onRefused(reason) {
          refusedConnections += 1
          log.warn({ remote: socket.remoteAddress, reason }, 'a connection was refused')
        }
      })
    )
  })
  server.maxConnections = MAX_CONNECTIONS
  server.on('drop', () => {
    refusedConnections += 1
  })
  const port = await listen(server, options.host, options.port).catch(async (error: unknown) => {
    await end()
    throw error
  })
  log.info({ host: options.host, port }, 'broker listens')
  if (!LOOPBACK.test(options.host))
    log.warn({ host: options.host }, 'the broker asks gateways for no login: mind who reaches it')

  async function end(): Promise<void> {
    gate.close()
    await new Promise<void>((resolve) => broker.close(() => resolve()))
    for (const socket of sockets) socket.destroy()
  }

  return {
    port,
    url: `mqtt://${OWN_CLIENT_PREFIX}:${secret}@${reachable(options.host)}:${port}`,
    figures: () => ({ connections: sockets.size, refusedConnections, refusedPublishes, ...gate.figures() }),
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      await end()
      await closed
    }
  }
}

function refusalOfOwn(channel: Channel | null): string | null {
  return channel === 'ack' || channel === 'command' ? null : 'the bridge publishes ack and command only'
}

function refusalOf(channel: Channel | null, { qos, payload }: PublishPacket): string | null {
  switch (channel) {
    case 'batch':
      // QoS 0 can't be held back, and QoS 2 would be counted twice.
      return qos === 1 && payload.length > 0 ? null : 'a batch is published with QoS 1'
    case 'status':
      return payload.length <= MAX_STATUS_BYTES ? null : `a status has at most ${MAX_STATUS_BYTES} bytes`
    case 'latest':
      return payload.length <= MAX_LATEST_BYTES ? null : `latest values have at most ${MAX_LATEST_BYTES} bytes`
    default:
      return 'gateways publish batch, status and latest only'
  }
}

/** One channel that is not `batch`, of one gateway or of all. aedes would grant `$share/…` and then deliver nothing to it. */
function isReadable(filter: string): boolean {
  const channel = parseTopic(filter)?.channel
  if (channel !== undefined) return READABLE.includes(channel)
  return filter === filterOf('status') || filter === filterOf('latest')
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest()
  return timingSafeEqual(hash(a), hash(b))
}

/** The host for a client on this machine. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return host.includes(':') ? `[${host}]` : host
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const inUse = codeOf(error) === 'EADDRINUSE'
      const message = inUse
        ? `the broker's port ${port} on ${host} is in use`
        : `the broker can't listen on ${host}:${port}: ${messageOf(error)}`
      const hint = 'stop the other program, set BRIDGE_BROKER_HOST and BRIDGE_BROKER_PORT, or BRIDGE_BROKER_URL'
      reject(new AppError('port_in_use', message, { hint, cause: error }))
    })
    server.listen(port, host, () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}
