// A client of one MQTT broker, 3.1.1 and 5, that lives as long as its owner: it connects, subscribes and reconnects by
// itself, for ever, with full jitter. Guarantees:
// - Nothing is delivered before the handler is there, and nothing is acknowledged before its `done(null)` (see inbox.ts).
// - Whatever a broker sends or fails to send ends in a new connection at most, with a reason, never in an exception.
// States: connecting → connected → disconnected → connecting …; connecting → refused | disconnected → connecting …;
// any → closed.
// MQTT 5 is tried first. A broker that answers that it doesn't speak it gets 3.1.1 from then on; one that only breaks off
// gets it for the next try, since that can also be a restart.
import type { IConnackPacket, IDisconnectPacket, ISubackPacket, Packet } from 'mqtt-packet'
import { AppError, messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { createBackoff, pause } from '../retry.ts'
import { parseAddress } from './address.ts'
import type { Delivery } from './delivery.ts'
import { createInbox } from './inbox.ts'
import type { Done, IncomingIds } from './inbox.ts'
import { ENDED_BY_PEER, openLink } from './link.ts'
import type { Link, OtherPacket, TlsOptions } from './link.ts'
import { createOutbox } from './outbox.ts'
import type { BrokerLimits, PublishOptions } from './outbox.ts'
import { connectRefusal, reasonText } from './reasons.ts'

export type { Delivery } from './delivery.ts'
export type { Done, IncomingIds } from './inbox.ts'
export type { TlsOptions } from './link.ts'
export type { PublishOptions } from './outbox.ts'

export type Subscription = { filter: string; qos: 0 | 1 | 2 }

export type ConnectionState =
  | { phase: 'connecting' }
  | {
      phase: 'connected'
      protocolVersion: 4 | 5
      sessionPresent: boolean
      /** The broker says that it has them; 3.1.1 brokers can't say and count as not having them. */
      sharedSubscriptions: boolean
      /** The broker has answered the subscriptions; the state is reported again then. */
      subscribed: boolean
      refusedFilters: { filter: string; reason: string }[]
    }
  | { phase: 'disconnected'; reason: string }
  | { phase: 'refused'; code: number; reason: string }
  | { phase: 'closed' }

export type ConnectionOptions = {
  /** `mqtt://` or `mqtts://`, with user and password where needed. */
  url: string
  clientId: string
  /** False: a session that outlives connections; messages sent meanwhile wait at the broker. */
  clean: boolean
  /** How long the broker keeps the session without us, s (MQTT 5 only; 3.1.1 brokers have their own rule). */
  sessionExpiryS?: number
  /** Deliveries with the owner at once, 1 to 65535. */
  receiveMaximum: number
  /** Payload bytes with the owner at once, before reading stops. */
  maxHeldBytes?: number
  /** A larger packet closes the connection before it is read; MQTT 5 brokers are told not to send it. */
  maxPacketBytes?: number
  keepAliveS?: number
  connectTimeoutMs?: number
  will?: { topic: string; payload: Uint8Array | string; qos: 0 | 1 | 2; retain: boolean }
  /** Set at each connecting. */
  subscriptions: Subscription[]
  /** Filters subscribed by earlier versions of the configuration: unsubscribed in a resumed session unless still listed. */
  knownFilters?: string[]
  /** Wait between tries: uniform between 0 and a ceiling that doubles from `baseMs` to `capMs`. */
  retry?: { baseMs: number; capMs: number }
  /**
   * Takes a message. `done(null)`: it is safe, acknowledge it; `done(error)`: it isn't, the connection is closed and the
   * broker sends it again (a session that isn't clean). Many are handed over before the first is done. An exception counts
   * as `done(error)`.
   */
  onDelivery(delivery: Delivery, done: Done): void
  /** Keeps QoS 2 ids across restarts; absent: they last as long as the process. */
  incoming?: IncomingIds
  onState?(state: ConnectionState): void
  tls?: TlsOptions
  log: Log
  random?: () => number
}

export type MqttConnection = {
  publish(topic: string, payload: Uint8Array | string, options: PublishOptions): Promise<void>
  state(): ConnectionState
  /** Deliveries not yet acknowledged, those of lost connections included while the owner works on them. */
  heldDeliveries(): number
  /** Sends the acknowledgements that are ready and DISCONNECT, which discards the will. What isn't done isn't acknowledged. */
  close(): Promise<void>
}

const SESSION_EXPIRY_S = 7 * 86_400
const MAX_HELD_BYTES = 16 * 2 ** 20
const MAX_PACKET_BYTES = 2 ** 20
const KEEP_ALIVE_S = 30
const CONNECT_TIMEOUT_MS = 10_000
const CLOSE_TIMEOUT_MS = 1_000
const DRAIN_TIMEOUT_MS = 2_000
const RETRY = { baseMs: 500, capMs: 30_000 }
/** A connection that lasted so long ends a series of tries. */
const STABLE_MS = 10_000
const SUBSCRIBE_ID = 65_535
const UNSUBSCRIBE_ID = 65_534
const UNLIMITED: BrokerLimits = {
  receiveMaximum: 65_535,
  maximumPacketBytes: Number.POSITIVE_INFINITY,
  maximumQos: 2,
  retainAvailable: true
}

/** @throws AppError `config_invalid` when URL or limits make no sense. */
export function openConnection(options: ConnectionOptions): MqttConnection {
  const address = parseAddress(options.url)
  const receiveMaximum = options.receiveMaximum
  if (!Number.isInteger(receiveMaximum) || receiveMaximum < 1 || receiveMaximum > 65_535) {
    throw new AppError('config_invalid', `receiveMaximum is ${receiveMaximum}, must be 1 to 65535`)
  }
  const log = options.log.child({ broker: address.shown, clientId: options.clientId })
  const maxPacketBytes = options.maxPacketBytes ?? MAX_PACKET_BYTES
  const backoff = createBackoff({ ...(options.retry ?? RETRY), ...(options.random ? { random: options.random } : {}) })
  const outbox = createOutbox()
  const inbox = createInbox({
    receiveMaximum,
    maxHeldBytes: options.maxHeldBytes ?? MAX_HELD_BYTES,
    incoming: options.incoming ?? null,
    onDelivery: options.onDelivery
  })
  let state: ConnectionState = { phase: 'connecting' }
  let link: Link | null = null
  let protocolVersion: 4 | 5 = 5
  let refuses5 = false
  let retryTimer: NodeJS.Timeout | null = null
  let connectTimer: NodeJS.Timeout | null = null
  /** CONNECT went out. */
  let greeted = false
  let connectedAtMs: number | null = null
  let refusal: { code: number; reason: string } | null = null
  let lastReason = ''
  let closing: { promise: Promise<void>; resolve(): void } | null = null

  function setState(next: ConnectionState): void {
    state = next
    options.onState?.(next)
  }

  function connect(): void {
    retryTimer = null
    refusal = null
    greeted = false
    connectedAtMs = null
    setState({ phase: 'connecting' })
    const opened = openLink({
      address,
      tls: options.tls ?? {},
      protocolVersion,
      maxPacketBytes,
      onOpen() {
        greeted = true
        opened.send(connectPacket())
      },
      onDelivery: (delivery) => onDelivery(opened, delivery),
      onPacket: (packet) => onPacket(opened, packet),
      onClose: onLinkClosed
    })
    link = opened
    const timeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS
    connectTimer = setTimeout(() => opened.destroy(`no answer within ${timeoutMs} ms`), timeoutMs)
  }

  function connectPacket(): Packet {
    const { will } = options
    return {
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion,
      clientId: options.clientId,
      clean: options.clean,
      keepalive: options.keepAliveS ?? KEEP_ALIVE_S,
      ...(address.username === null ? {} : { username: address.username }),
      ...(address.password === null ? {} : { password: Buffer.from(address.password) }),
      ...(will === undefined ? {} : { will: { ...will, payload: Buffer.from(will.payload) } }),
      ...(protocolVersion === 4
        ? {}
        : {
            properties: {
              sessionExpiryInterval: options.clean ? 0 : (options.sessionExpiryS ?? SESSION_EXPIRY_S),
              receiveMaximum,
              maximumPacketSize: maxPacketBytes
            }
          })
    }
  }

  function onDelivery(from: Link, delivery: Delivery): void {
    if (connectedAtMs === null) return from.destroy('the broker sent publish before CONNACK')
    if (delivery.topic === '' || (delivery.qos > 0 && !isPacketId(delivery.packetId))) {
      return from.destroy('the broker sent a malformed PUBLISH')
    }
    inbox.deliver(delivery)
  }

  function onPacket(from: Link, packet: OtherPacket): void {
    if (connectedAtMs === null) {
      if (packet.cmd === 'connack') onConnack(from, packet)
      else from.destroy(`the broker sent ${packet.cmd} before CONNACK`)
      return
    }
    switch (packet.cmd) {
      case 'pubrel':
        if (!isPacketId(packet.messageId)) return from.destroy('the broker sent a malformed PUBREL')
        return inbox.pubrel(packet.messageId)
      case 'puback':
        if (!outbox.puback(packet.messageId ?? 0, packet.reasonCode ?? 0)) {
          log.debug({ packetId: packet.messageId }, 'acknowledgement of nothing ignored')
        }
        return
      case 'suback':
        return onSuback(packet)
      case 'unsuback':
        return
      case 'disconnect':
        return from.destroy(disconnectReason(packet))
      default:
        return from.destroy(`the broker sent an unexpected ${packet.cmd}`)
    }
  }

  function onConnack(from: Link, packet: IConnackPacket): void {
    const code = packet.reasonCode ?? packet.returnCode ?? 0
    if (code !== 0) {
      if (protocolVersion === 5 && (code === 1 || code === 0x84)) refuses5 = true
      else refusal = { code, reason: describeRefusal(protocolVersion, packet, code) }
      return from.destroy(`the broker refused the connection: ${connectRefusal(protocolVersion, code)}`)
    }
    if (connectTimer !== null) clearTimeout(connectTimer)
    connectedAtMs = performance.now()
    const properties = packet.properties
    from.keepAlive((properties?.serverKeepAlive ?? options.keepAliveS ?? KEEP_ALIVE_S) * 1_000)
    outbox.attach(limitsOf(packet), from.send)
    const sessionPresent = packet.sessionPresent
    lastReason = ''
    log.info({ protocolVersion, sessionPresent }, 'connected')
    const ready = inbox.attach(
      { ...from, sendPubcomp: (messageId) => from.send({ cmd: 'pubcomp', messageId }) },
      sessionPresent
    )
    setState({
      phase: 'connected',
      protocolVersion,
      sessionPresent,
      sharedSubscriptions: protocolVersion === 5 && properties?.sharedSubscriptionAvailable !== false,
      subscribed: options.subscriptions.length === 0,
      refusedFilters: []
    })
    ready.then(
      () => {
        if (link === from) subscribe(from, sessionPresent)
      },
      (error: unknown) => from.destroy(`the packet ids of the lost session could not be cleared: ${messageOf(error)}`)
    )
  }

  function subscribe(to: Link, sessionPresent: boolean): void {
    const wanted = new Set(options.subscriptions.map(({ filter }) => filter))
    const unwanted = (options.knownFilters ?? []).filter((filter) => !wanted.has(filter))
    if (sessionPresent && unwanted.length > 0) {
      to.send({ cmd: 'unsubscribe', messageId: UNSUBSCRIBE_ID, unsubscriptions: unwanted })
    }
    if (options.subscriptions.length === 0) return
    const subscriptions = options.subscriptions.map(({ filter, qos }) => ({
      topic: filter,
      qos,
      nl: false,
      rap: false,
      rh: 0
    }))
    to.send({ cmd: 'subscribe', messageId: SUBSCRIBE_ID, subscriptions })
  }

  function onSuback(packet: ISubackPacket): void {
    if (state.phase !== 'connected') return
    const refusedFilters: { filter: string; reason: string }[] = []
    for (const [i, { filter, qos }] of options.subscriptions.entries()) {
      const granted = packet.granted[i]
      if (typeof granted !== 'number' || granted >= 0x80) {
        const reason = reasonText(typeof granted === 'number' ? granted : 0x80)
        refusedFilters.push({ filter, reason })
        log.error(
          { filter, reason },
          'subscription refused: allow it in the access rules of the broker, or take it out'
        )
      } else if (granted < qos) {
        log.warn({ filter, wantedQos: qos, grantedQos: granted }, 'subscription granted with a lower QoS')
      }
    }
    setState({ ...state, subscribed: true, refusedFilters })
  }

  function onLinkClosed(cause: string): void {
    link = null
    // What brokers do to the older of two clients with one id, mostly without a word.
    const unexplained = cause === ENDED_BY_PEER && connectedAtMs !== null
    const reason = unexplained
      ? `${cause}; if it does so again and again, another client uses the same client id`
      : cause
    if (connectTimer !== null) clearTimeout(connectTimer)
    inbox.detach()
    outbox.detach(new AppError('connection_lost', `the connection to the broker was lost: ${reason}`))
    if (closing !== null) return finishClosing()
    const answered = connectedAtMs !== null || refusal !== null
    if (connectedAtMs !== null && performance.now() - connectedAtMs >= STABLE_MS) backoff.reset()
    if (refuses5 && protocolVersion === 5) {
      protocolVersion = 4
      log.debug('the broker does not speak MQTT 5, trying 3.1.1')
      return connect()
    }
    protocolVersion = refuses5 || (greeted && !answered && protocolVersion === 5) ? 4 : 5
    const retryMs = backoff.nextMs()
    if (reason === lastReason) log.debug({ reason, retryMs }, 'disconnected again')
    else log.warn({ reason, retryMs }, 'disconnected')
    lastReason = reason
    retryTimer = setTimeout(connect, retryMs)
    setState(refusal === null ? { phase: 'disconnected', reason } : { phase: 'refused', ...refusal })
  }

  function finishClosing(): void {
    if (state.phase === 'closed') return
    setState({ phase: 'closed' })
    closing?.resolve()
  }

  // In a turn of its own, so that the owner has what it opened when the first state is reported.
  retryTimer = setTimeout(connect, 0)

  /** What was taken is acknowledged first, within a time: it would come again, and what has no time of its own be stored twice. */
  async function takeLeave(): Promise<void> {
    await Promise.race([inbox.drain(), pause(DRAIN_TIMEOUT_MS)])
    if (link === null) return finishClosing()
    link.send({ cmd: 'disconnect' })
    link.end('closed', CLOSE_TIMEOUT_MS)
  }

  return {
    publish: outbox.publish,
    state: () => state,
    heldDeliveries: inbox.held,
    close() {
      if (closing !== null) return closing.promise
      closing = Promise.withResolvers<void>()
      if (retryTimer !== null) clearTimeout(retryTimer)
      if (link === null) finishClosing()
      else if (connectedAtMs === null) link.destroy('closed')
      else void takeLeave()
      return closing.promise
    }
  }
}

function isPacketId(id: number | null | undefined): id is number {
  return typeof id === 'number' && id > 0
}

function limitsOf(packet: IConnackPacket): BrokerLimits {
  const properties = packet.properties
  return {
    receiveMaximum: properties?.receiveMaximum ?? UNLIMITED.receiveMaximum,
    maximumPacketBytes: properties?.maximumPacketSize ?? UNLIMITED.maximumPacketBytes,
    maximumQos: properties?.maximumQoS ?? UNLIMITED.maximumQos,
    retainAvailable: properties?.retainAvailable ?? UNLIMITED.retainAvailable
  }
}

function describeRefusal(protocolVersion: 4 | 5, packet: IConnackPacket, code: number): string {
  const said = packet.properties?.reasonString
  return connectRefusal(protocolVersion, code) + (said === undefined ? '' : ` (${said})`)
}

function disconnectReason(packet: IDisconnectPacket): string {
  const said = packet.properties?.reasonString
  const code = packet.reasonCode ?? 0
  return `the broker ended the connection: ${reasonText(code)}${said === undefined ? '' : ` (${said})`}`
}
