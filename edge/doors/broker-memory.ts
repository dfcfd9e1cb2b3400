// What the embedded broker keeps in memory for its clients: aedes' memory persistence with bounds, and with QoS 2 packet ids
// that are forgotten on the disk before PUBCOMP.
//
// Guarantees: for a subscriber with a session at most `maxQueued` messages are kept for sending (again), for all of them
// `maxQueuedBytes`; at most `maxRetained` topics and `maxRetainedBytes` are retained. What is beyond that is delivered to
// who is connected and otherwise not kept. The publisher notices nothing: its records are on the disk before.
import { Readable } from 'node:stream'
import AsyncPersistence from 'aedes-persistence/asyncPersistence.js'
import type { Packet } from 'aedes-persistence/asyncPersistence.js'
import type { Log } from '../../shared/log.ts'
import type { Packets } from '../packets.ts'

export type MemoryLimits = {
  /** Messages for one subscriber. */
  maxQueued: number
  maxQueuedBytes: number
  /** Topics. */
  maxRetained: number
  maxRetainedBytes: number
}

const LIMITS: MemoryLimits = {
  maxQueued: 1_000,
  maxQueuedBytes: 16 * 2 ** 20,
  maxRetained: 10_000,
  maxRetainedBytes: 16 * 2 ** 20
}

/** About what a kept packet takes beside topic and payload. */
const PACKET_OVERHEAD_BYTES = 256

type SessionClient = { id: string }

export function keyOf(client: SessionClient): string {
  return `broker/${client.id}`
}

export function createPersistence(options: {
  packets: Pick<Packets, 'has' | 'release' | 'forget'>
  log: Log
  limits?: MemoryLimits
}): AsyncPersistence {
  const { packets, log } = options
  const { maxQueued, maxQueuedBytes, maxRetained, maxRetainedBytes } = options.limits ?? LIMITS
  /** By client id. */
  const queues = new Map<string, Packet[]>()
  let queuedBytes = 0
  /** Bytes by topic. */
  const retained = new Map<string, number>()
  let retainedBytes = 0
  const warned = new Set<string>()

  function warnOnce(message: string, facts: Record<string, unknown>): void {
    if (warned.has(message)) return
    warned.add(message)
    log.warn(facts, message)
  }

  function enqueue(client: string, packet: Packet): void {
    const queue = queues.get(client) ?? []
    const bytes = bytesOf(packet)
    if (queue.length >= maxQueued || queuedBytes + bytes > maxQueuedBytes) {
      return warnOnce('messages are not kept for a subscriber that does not take them', { client })
    }
    queue.push({ ...packet, messageId: undefined })
    queuedBytes += bytes
    queues.set(client, queue)
  }

  class Persistence extends AsyncPersistence {
    override async storeRetained(packet: Packet): Promise<void> {
      const topic = packet.topic ?? ''
      const former = retained.get(topic)
      const bytes = bytesOf(packet)
      const isEmpty = packet.payload === undefined || packet.payload.length === 0
      const fits =
        retainedBytes - (former ?? 0) + bytes <= maxRetainedBytes &&
        (former !== undefined || retained.size < maxRetained)
      retained.delete(topic)
      retainedBytes -= former ?? 0
      if (!isEmpty && fits) {
        retained.set(topic, bytes)
        retainedBytes += bytes
        return super.storeRetained(packet)
      }
      if (!isEmpty) warnOnce('no more messages are retained', { topic, retained: retained.size, retainedBytes })
      // An outdated value would be worse than none.
      if (former !== undefined) await super.storeRetained({ ...packet, payload: Buffer.alloc(0) })
    }

    override async outgoingEnqueue(subscription: { clientId: string }, packet: Packet): Promise<void> {
      enqueue(subscription.clientId, packet)
    }
    override async outgoingEnqueueCombi(subscriptions: readonly { clientId: string }[], packet: Packet): Promise<void> {
      for (const { clientId } of subscriptions) enqueue(clientId, packet)
    }
    /** A message that isn't kept is no error: it goes to its subscriber all the same. */
    override async outgoingUpdate(client: SessionClient, packet: Packet): Promise<void> {
      const queue = queues.get(client.id) ?? []
      const index = queue.findIndex((kept) => isSame(kept, packet))
      const kept = queue[index]
      if (kept === undefined) return
      if (isOfOneBroker(kept, packet)) {
        kept.messageId = packet.messageId
        return
      }
      // PUBREL in the place of what it releases.
      queuedBytes += bytesOf(packet) - bytesOf(kept)
      queue[index] = packet
    }
    override async outgoingClearMessageId(client: SessionClient, packet: Packet): Promise<Packet | undefined> {
      const queue = queues.get(client.id) ?? []
      const index = queue.findIndex(({ messageId }) => messageId === packet.messageId)
      if (index < 0) return undefined
      const [kept] = queue.splice(index, 1)
      if (kept !== undefined) queuedBytes -= bytesOf(kept)
      if (queue.length === 0) queues.delete(client.id)
      return kept
    }
    override outgoingStream(client: SessionClient): Readable {
      return Readable.from([...(queues.get(client.id) ?? [])])
    }

    override async incomingGetPacket(client: SessionClient, packet: Packet): Promise<Packet> {
      const key = { client: keyOf(client), packet: packet.messageId ?? 0 }
      // A PUBREL for a packet of before a restart: only the buffer knows it.
      if (packet.cmd !== 'publish' && packets.has(key)) return packet
      return super.incomingGetPacket(client, packet)
    }
    override async incomingDelPacket(client: SessionClient, packet: Packet): Promise<void> {
      await packets.release({ client: keyOf(client), packet: packet.messageId ?? 0 })
      await super.incomingDelPacket(client, packet)
    }
    override async cleanIncoming(client: SessionClient): Promise<void> {
      await packets.forget(keyOf(client))
      await super.cleanIncoming(client)
    }
  }
  return new Persistence()
}

/** A message of this broker is known by its number, an answer to it by its packet id. */
function isSame(kept: Packet, packet: Packet): boolean {
  if (isOfOneBroker(kept, packet)) return kept.brokerCounter === packet.brokerCounter
  return kept.messageId === packet.messageId
}

function isOfOneBroker(kept: Packet, packet: Packet): boolean {
  return packet.brokerId !== undefined && kept.brokerId === packet.brokerId
}

function bytesOf({ topic, payload }: Packet): number {
  return PACKET_OVERHEAD_BYTES + Buffer.byteLength(topic ?? '') + Buffer.byteLength(payload ?? '')
}
