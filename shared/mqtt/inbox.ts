// What arrives, until it is acknowledged. Guarantees:
// - A delivery is acknowledged only after its `done(null)`, in the order of arrival (MQTT-4.6.0-2, -3), all that is ready
//   in one write.
// - At most `receiveMaximum` deliveries and about `maxHeldBytes` are with the owner at once, those of lost connections
//   counted; the packets behind them are parked, and past `PARKED_BYTES` the socket isn't read.
// - QoS 2: a packet id is handed over once until its PUBREL (MQTT-4.3.3-2), across connections of one session, and across
//   restarts when the owner keeps the ids (`IncomingIds`). Another message under a pending id is delivered: the broker has
//   given the id twice (aedes does after a reconnect) or forgotten the session, and taking it for a repeat would lose it.
// - A message that the broker sends again while the owner still works on its first delivery isn't handed over again.
// Not guaranteed: that a QoS 1 message acknowledged in vain (the connection broke) comes once.
import { hash } from 'node:crypto'
import { messageOf } from '../errors.ts'
import type { Delivery } from './delivery.ts'

export type Done = (error: Error | null) => void

/** The packet ids of QoS 2 messages that were taken and not yet released, kept by the owner beyond the process. */
export type IncomingIds = {
  /**
   * True from the commit of the delivery, which holds the id too, to the commit of its release. An owner that keeps a
   * digest of the message with the id can tell a repeat from another message, and answers false to that.
   */
  isPending(packetId: number, delivery: Delivery): boolean
  /** Forgets the id durably, then calls `done`. May come twice for an id, or for an unknown one. */
  release(packetId: number, done: Done): void
  /** The broker has lost the session: forgets all ids durably. No delivery is made until then. */
  clear(): void | Promise<void>
}

export type InboxOptions = {
  receiveMaximum: number
  maxHeldBytes: number
  incoming: IncomingIds | null
  onDelivery(delivery: Delivery, done: Done): void
}

/** The connection of the moment, as the inbox needs it. */
export type InboxLink = {
  sendBytes(bytes: Uint8Array): void
  /** Confirms a PUBREL. */
  sendPubcomp(packetId: number): void
  pause(): void
  resume(): void
  destroy(reason: string): void
}

export type Inbox = {
  /** A connection is up. Resolves when deliveries may come: at once, or with a new session when the ids are cleared. */
  attach(link: InboxLink, sessionPresent: boolean): Promise<void>
  /** The connection is gone: what wasn't acknowledged will come again. */
  detach(): void
  deliver(delivery: Delivery): void
  pubrel(packetId: number): void
  /** Writes the acknowledgements that are ready. */
  flush(): void
  /** Takes nothing more; resolves when all that was taken is acknowledged, or the connection is gone. */
  drain(): Promise<void>
  /** Deliveries with the owner, or ready and waiting for an earlier one. */
  held(): number
}

type Entry = {
  delivery: Delivery
  link: InboxLink
  session: number
  /** Acknowledged as soon as all before it are. */
  settled: boolean
  /** Handed to the owner, whose `done` will come. */
  handed: boolean
  /** The same message, sent again over a later connection: is acknowledged when this one is done. */
  follower: Entry | null
}

/** Packets kept behind a full hand, bytes: enough that acknowledgements of our own publishes are still read. */
const PARKED_BYTES = 65_536
const PUBACK = 0x40
const PUBREC = 0x50

export function createInbox(options: InboxOptions): Inbox {
  let link: InboxLink | null = null
  let session = 0
  /** In order of arrival over the present connection; those before `head` are acknowledged. */
  let queue: Entry[] = []
  let head = 0
  let heldCount = 0
  let heldBytes = 0
  let parked: Delivery[] = []
  let parkedBytes = 0
  let paused = false
  let flushing = false
  /** Of earlier connections, still with the owner. */
  const leftovers = new Set<Entry>()
  /** QoS 2 ids on their way to PUBREC over the present connection. */
  const answering = new Set<number>()
  /** QoS 2 ids with PUBREC sent in this process, each with the digest of its message. */
  const answered = new Map<number, string>()
  /** The session that the owner's ids belong to is gone. */
  let idsAreStale = false
  let onDrained: (() => void) | null = null
  /** Nothing more is taken; called when the hand is empty. */
  let onEmpty: (() => void) | null = null

  function isFull(): boolean {
    return heldCount >= options.receiveMaximum || heldBytes >= options.maxHeldBytes
  }

  function isRepeat(packetId: number, delivery: Delivery): boolean {
    const digest = answered.get(packetId)
    if (digest !== undefined) return digest === digestOf(delivery)
    return options.incoming?.isPending(packetId, delivery) === true
  }

  function take(delivery: Delivery, from: InboxLink): void {
    const packetId = delivery.packetId
    const entry: Entry = { delivery, link: from, session, settled: false, handed: false, follower: null }
    if (delivery.qos === 2 && packetId !== null) {
      if (answering.has(packetId)) return
      answering.add(packetId)
    }
    queue.push(entry)
    heldCount += 1
    heldBytes += delivery.payload.length
    if (delivery.qos === 2 && packetId !== null && isRepeat(packetId, delivery)) return settle(entry)
    const earlier = leftovers.size === 0 ? undefined : [...leftovers].find((leftover) => isSame(leftover, entry))
    if (earlier === undefined) hand(entry)
    else earlier.follower = entry
  }

  function hand(entry: Entry): void {
    entry.handed = true
    const done: Done = (error) => {
      if (!entry.handed || entry.settled) return
      if (error === null) settle(entry)
      else fail(entry, error)
    }
    try {
      options.onDelivery(entry.delivery, done)
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)))
    }
  }

  function settle(entry: Entry): void {
    entry.settled = true
    if (entry.delivery.qos === 2 && entry.delivery.packetId !== null && entry.session === session) {
      answered.set(entry.delivery.packetId, digestOf(entry.delivery))
    }
    if (entry.follower !== null && entry.follower.link === link) settle(entry.follower)
    if (leftovers.size > 0 && leftovers.has(entry)) dropLeftover(entry)
    scheduleFlush()
  }

  function fail(entry: Entry, error: Error): void {
    const failing = entry.follower ?? entry
    entry.handed = false
    if (leftovers.has(entry)) dropLeftover(entry)
    if (failing.link === link) link.destroy(`a delivery could not be taken: ${messageOf(error)}`)
    else scheduleFlush()
  }

  function forget(entry: Entry): void {
    heldCount -= 1
    heldBytes -= entry.delivery.payload.length
  }

  function dropLeftover(entry: Entry): void {
    leftovers.delete(entry)
    forget(entry)
    if (leftovers.size === 0) onDrained?.()
  }

  function scheduleFlush(): void {
    if (flushing) return
    flushing = true
    queueMicrotask(() => {
      flushing = false
      flush()
    })
  }

  function flush(): void {
    if (link === null) return
    const first = head
    for (let entry = queue[head]; entry?.settled === true; entry = queue[head]) {
      forget(entry)
      head += 1
    }
    if (head > first) {
      const bytes = acknowledgements(queue, first, head)
      if (answering.size > 0) {
        for (let i = first; i < head; i += 1) {
          const delivery = queue[i]?.delivery
          if (delivery?.qos === 2) answering.delete(delivery.packetId ?? 0)
        }
      }
      if (head === queue.length || head > 4_096) {
        queue = queue.slice(head)
        head = 0
      }
      if (bytes.length > 0) link.sendBytes(bytes)
    }
    if (onEmpty !== null) return head === queue.length ? onEmpty() : undefined
    unpark(link)
  }

  function unpark(from: InboxLink): void {
    if (parked.length === 0 || isFull()) return
    let count = 0
    for (; count < parked.length && !isFull() && from === link; count += 1) {
      const delivery = parked[count]
      if (delivery === undefined) break
      parkedBytes -= delivery.payload.length
      take(delivery, from)
    }
    if (from !== link) return
    parked = parked.slice(count)
    if (paused && parked.length === 0) {
      paused = false
      from.resume()
    }
  }

  return {
    async attach(newLink, sessionPresent) {
      link = newLink
      if (!sessionPresent) {
        session += 1
        answered.clear()
        idsAreStale = options.incoming !== null
      }
      if (!idsAreStale) return
      // An id that the owner commits after the clearing would shadow a message of the new session.
      if (leftovers.size > 0) await new Promise<void>((resolve) => (onDrained = resolve))
      if (link !== newLink) return
      await options.incoming?.clear()
      idsAreStale = false
    },
    detach() {
      link = null
      onEmpty?.()
      for (const entry of queue.slice(head)) {
        if (entry.handed && !entry.settled) leftovers.add(entry)
        else forget(entry)
      }
      for (const leftover of leftovers) leftover.follower = null
      queue = []
      head = 0
      answering.clear()
      parked = []
      parkedBytes = 0
      paused = false
    },
    deliver(delivery) {
      if (link === null || onEmpty !== null) return
      if (parked.length === 0 && !isFull()) return take(delivery, link)
      parked.push(delivery)
      parkedBytes += delivery.payload.length
      if (paused || parkedBytes < PARKED_BYTES) return
      paused = true
      link.pause()
    },
    pubrel(packetId) {
      const from = link
      if (from === null) return
      const finish: Done = (error) => {
        if (error !== null) {
          if (from === link) from.destroy(`a packet id could not be released: ${messageOf(error)}`)
          return
        }
        if (from !== link) return
        answered.delete(packetId)
        from.sendPubcomp(packetId)
      }
      if (options.incoming === null) finish(null)
      else options.incoming.release(packetId, finish)
    },
    flush,
    drain() {
      parked = []
      return new Promise<void>((resolve) => {
        onEmpty = resolve
        if (link === null) resolve()
        else flush()
      })
    },
    held: () => heldCount
  }
}

function digestOf(delivery: Delivery): string {
  return hash('sha256', delivery.payload, 'base64') + delivery.topic
}

/** Whether the broker has sent the message of `earlier` again: a resumed session keeps its packet ids (MQTT-4.4.0-1). */
function isSame(earlier: Entry, later: Entry): boolean {
  const a = earlier.delivery
  const b = later.delivery
  return (
    earlier.session === later.session &&
    earlier.follower === null &&
    a.packetId !== null &&
    a.packetId === b.packetId &&
    a.qos === b.qos &&
    a.topic === b.topic &&
    Buffer.compare(a.payload, b.payload) === 0
  )
}

/** PUBACK or PUBREC for each entry from `first` to before `end`, without reason: success in both versions. */
function acknowledgements(queue: Entry[], first: number, end: number): Uint8Array {
  const bytes = Buffer.allocUnsafe((end - first) * 4)
  let at = 0
  for (let i = first; i < end; i += 1) {
    const delivery = queue[i]?.delivery
    if (delivery === undefined || delivery.packetId === null) continue
    bytes[at] = delivery.qos === 1 ? PUBACK : PUBREC
    bytes[at + 1] = 2
    bytes[at + 2] = delivery.packetId >> 8
    bytes[at + 3] = delivery.packetId & 0xff
    at += 4
  }
  return bytes.subarray(0, at)
}
