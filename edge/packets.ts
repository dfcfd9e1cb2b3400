// QoS 2 packet ids that are in the buffer together with their records: a repeated publish is recognised, also after a restart,
// until its PUBREL; the id is forgotten on the disk before PUBCOMP is sent, so that its next use is a new message. With the id
// stands a digest of the message: a peer that lost its session may use a pending id for another message, which must not be taken
// for a repeat.
import { createHash } from 'node:crypto'
import type { EdgeBuffer } from './buffer/buffer.ts'
import type { PacketKey, StoredPacket } from './buffer/store.ts'
import type { AppError } from '../shared/errors.ts'
import type { Done } from './intake.ts'

export type Packets = {
  /**
   * A publish with this id arrived. `store` is called when it is new; `done` follows when its records are on the disk, at once
   * if they are already.
   */
  enter(packet: StoredPacket, store: (done: Done) => void, done: Done): void
  /** Whether the id is on the disk; with `digest`: for that message. */
  has(key: PacketKey, digest?: string): boolean
  /** Resolves when the id is forgotten on the disk. */
  release(key: PacketKey): Promise<void>
  /** The client's session is gone; resolves when all its ids are forgotten on the disk. */
  forget(client: string): Promise<void>
}

/** `waiters`: who waits for the storing; null once it is stored. */
type Entry = { digest: string; waiters: Done[] | null }

/** What tells one message from another under the same id; hex. */
export function messageDigest(topic: string, payload: Uint8Array): string {
  return createHash('sha256').update(topic).update('\0').update(payload).digest('hex')
}

export function createPackets(buffer: Pick<EdgeBuffer, 'opened' | 'releasePackets'>): Packets {
  const clients = new Map<string, Map<number, Entry>>()
  let released: PacketKey[] = []
  let forgotten: string[] = []
  let releasing: Promise<void> | null = null

  function idsOf(client: string): Map<number, Entry> {
    const known = clients.get(client)
    if (known !== undefined) return known
    const ids = new Map<number, Entry>()
    clients.set(client, ids)
    return ids
  }
  for (const { client, packet, digest } of buffer.opened.packets) idsOf(client).set(packet, { digest, waiters: null })

  /** Releases of one turn share a transaction. */
  function flushSoon(): Promise<void> {
    releasing ??= new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      const packets = released
      const sessions = forgotten
      released = []
      forgotten = []
      releasing = null
      return buffer.releasePackets(packets, sessions)
    })
    return releasing
  }

  return {
    enter({ client, packet, digest }, store, done) {
      const ids = idsOf(client)
      const known = ids.get(packet)
      if (known?.digest === digest) {
        if (known.waiters === null) done(null)
        else known.waiters.push(done)
        return
      }
      const entry: Entry = { digest, waiters: [done] }
      ids.set(packet, entry)
      store((error: AppError | null) => {
        const waiters = entry.waiters ?? []
        entry.waiters = null
        if (error !== null && ids.get(packet) === entry) ids.delete(packet)
        for (const waiter of waiters) waiter(error)
      })
    },
    has(key, digest) {
      const entry = clients.get(key.client)?.get(key.packet)
      return entry?.waiters === null && (digest === undefined || digest === entry.digest)
    },
    async release(key) {
      const ids = clients.get(key.client)
      const entry = ids?.get(key.packet)
      if (entry?.waiters !== null) return
      released.push(key)
      await flushSoon()
      if (ids?.get(key.packet) === entry) ids.delete(key.packet)
      if (ids?.size === 0 && clients.get(key.client) === ids) clients.delete(key.client)
    },
    async forget(client) {
      const known = clients.get(client)?.size ?? 0
      clients.delete(client)
      if (known === 0) return
      forgotten.push(client)
      await flushSoon()
    }
  }
}
