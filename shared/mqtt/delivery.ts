// A message as the broker sent it, read from a PUBLISH. The usual form, without properties, is read here at a fraction of the
// codec's cost; all others are the codec's.
import type { IPublishPacket } from 'mqtt-packet'

export type Delivery = {
  topic: string
  /** A view of the bytes read; copy it to keep it long. */
  payload: Uint8Array
  qos: 0 | 1 | 2
  /** Replayed by the broker at subscribing, not live. */
  retained: boolean
  duplicate: boolean
  /** Null at QoS 0. */
  packetId: number | null
}

const PUBLISH = 3
const DUPLICATE = 0x08
const RETAINED = 0x01

/**
 * Reads the packet that lies in `bytes` from `start` to before `end`, whole. Null: it is no PUBLISH, has properties or isn't
 * well-formed, and the codec has to say which.
 */
export function readDelivery(bytes: Buffer, start: number, end: number, protocolVersion: 4 | 5): Delivery | null {
  const header = bytes[start] ?? 0
  const qos = qosOf(header)
  if (header >> 4 !== PUBLISH || qos === null) return null
  let at = start + 1
  while ((bytes[at] ?? 0) >= 0x80) at += 1
  const topicAt = at + 3
  const topicEnd = topicAt + ((bytes[at + 1] ?? 0) << 8) + (bytes[at + 2] ?? 0)
  at = topicEnd
  let packetId: number | null = null
  if (qos > 0) {
    packetId = ((bytes[at] ?? 0) << 8) + (bytes[at + 1] ?? 0)
    at += 2
  }
  if (protocolVersion === 5) {
    // The length of the properties.
    if (at >= end || bytes[at] !== 0) return null
    at += 1
  }
  if (at > end) return null
  return {
    topic: bytes.toString('utf8', topicAt, topicEnd),
    payload: bytes.subarray(at, end),
    qos,
    retained: (header & RETAINED) !== 0,
    duplicate: (header & DUPLICATE) !== 0,
    packetId
  }
}

/** What the codec has read. */
export function deliveryOf(packet: IPublishPacket): Delivery {
  return {
    topic: packet.topic,
    payload: typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload,
    qos: packet.qos,
    retained: packet.retain,
    duplicate: packet.dup,
    packetId: packet.qos === 0 ? null : (packet.messageId ?? null)
  }
}

/** MQTT-3.3.1-4: there is no 3. */
function qosOf(header: number): 0 | 1 | 2 | null {
  switch ((header >> 1) & 3) {
    case 0:
      return 0
    case 1:
      return 1
    case 2:
      return 2
    default:
      return null
  }
}
