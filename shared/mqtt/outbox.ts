// What we publish, until the broker has acknowledged it. A publish belongs to one connection: it is rejected when that is
// lost, and sending again is the caller's business (who alone knows whether it still matters).
import type { IPublishPacket } from 'mqtt-packet'
import { AppError } from '../errors.ts'
import { reasonText } from './reasons.ts'

export type PublishOptions = { qos: 0 | 1; retain?: boolean }

/** What the broker takes, from its CONNACK; 3.1.1 doesn't say and counts as taking everything. */
export type BrokerLimits = {
  receiveMaximum: number
  maximumPacketBytes: number
  maximumQos: number
  retainAvailable: boolean
}

export type Outbox = {
  attach(limits: BrokerLimits, send: (packet: IPublishPacket, onWritten?: () => void) => void): void
  /** Rejects all that isn't acknowledged. */
  detach(error: AppError): void
  /**
   * QoS 1: resolves at PUBACK. QoS 0: when written.
   * @throws AppError `connection_lost` when not connected, or the connection is lost before; `connection_refused` when
   * the broker doesn't take the message.
   */
  publish(topic: string, payload: Uint8Array | string, options: PublishOptions): Promise<void>
  /** PUBACK; false when nothing is waiting under this id. */
  puback(packetId: number, reasonCode: number): boolean
}

/** Ids above are left to SUBSCRIBE and UNSUBSCRIBE. */
const MAX_PACKET_ID = 65_000
/** A fixed header and a packet id with their properties, bytes, at most. */
const HEADER_BYTES = 16

type Waiting = { packet: IPublishPacket; resolve(): void; reject(error: AppError): void }

export function createOutbox(): Outbox {
  let limits: BrokerLimits | null = null
  let send: ((packet: IPublishPacket, onWritten?: () => void) => void) | null = null
  let lastId = 0
  const inFlight = new Map<number, Waiting>()
  const unwritten = new Set<Waiting>()
  let queued: Waiting[] = []

  function nextId(): number {
    do lastId = (lastId % MAX_PACKET_ID) + 1
    while (inFlight.has(lastId))
    return lastId
  }

  function sendQueued(): void {
    if (limits === null || send === null) return
    const room = Math.min(limits.receiveMaximum, MAX_PACKET_ID) - inFlight.size
    for (const waiting of queued.splice(0, room)) {
      waiting.packet.messageId = nextId()
      inFlight.set(waiting.packet.messageId, waiting)
      send(waiting.packet)
    }
  }

  return {
    attach(newLimits, newSend) {
      limits = newLimits
      send = newSend
    },
    detach(error) {
      limits = null
      send = null
      const lost = [...inFlight.values(), ...unwritten, ...queued]
      inFlight.clear()
      unwritten.clear()
      queued = []
      for (const waiting of lost) waiting.reject(error)
    },
    async publish(topic, payload, { qos, retain = false }) {
      const sendNow = send
      if (limits === null || sendNow === null) throw new AppError('connection_lost', 'not connected to the broker')
      const bytes =
        typeof payload === 'string'
          ? Buffer.from(payload)
          : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
      const refusal = refusalOf(topic, bytes.length, qos, limits)
      if (refusal !== null)
        throw new AppError('connection_refused', `the message to ${topic} can't be sent: ${refusal}`)
      const packet: IPublishPacket = {
        cmd: 'publish',
        topic,
        payload: bytes,
        qos,
        dup: false,
        retain: retain && limits.retainAvailable
      }
      await new Promise<void>((resolve, reject) => {
        const waiting = { packet, resolve, reject }
        if (qos === 1) {
          queued.push(waiting)
          return sendQueued()
        }
        unwritten.add(waiting)
        sendNow(packet, () => {
          unwritten.delete(waiting)
          resolve()
        })
      })
    },
    puback(packetId, reasonCode) {
      const waiting = inFlight.get(packetId)
      if (waiting === undefined) return false
      inFlight.delete(packetId)
      if (reasonCode < 0x80) waiting.resolve()
      else {
        const message = `the broker refused the message to ${waiting.packet.topic}: ${reasonText(reasonCode)}`
        waiting.reject(new AppError('connection_refused', message))
      }
      sendQueued()
      return true
    }
  }
}

function refusalOf(topic: string, payloadBytes: number, qos: number, limits: BrokerLimits): string | null {
  const topicBytes = Buffer.byteLength(topic)
  if (topicBytes === 0 || topicBytes > 65_535 || /[+#\0]/.test(topic)) return 'this is not a topic to publish to'
  if (qos > limits.maximumQos) return `the broker takes QoS ${limits.maximumQos} at most`
  const packetBytes = HEADER_BYTES + topicBytes + payloadBytes
  if (packetBytes <= limits.maximumPacketBytes) return null
  return `it has ${packetBytes} bytes, the broker takes ${limits.maximumPacketBytes} at most`
}
