// The buffer's logic on its file, in one thread, synchronous: what the worker runs.
//
// Guarantees
// - What `commit` took is on the disk when it returns (synchronous=FULL), with its sums, in one transaction.
// - A batch leaves only by an acknowledgement of exactly its bytes (digest); the acknowledged counts move in the same
//   transaction. Acknowledged batches stay for `keepAckedMs`, rows for `dedupeWindowMs`, both space permitting.
// - A seq is never given out twice; batch numbers have no gaps; the digest chain has no holes within an epoch.
import { randomUUID } from 'node:crypto'
import type { Ack } from '../../shared/ack.ts'
import { LANES } from '../../shared/batch/envelope.ts'
import type { Lane } from '../../shared/batch/envelope.ts'
import { AppError, codeOf } from '../../shared/errors.ts'
import type { EpochSums } from '../../shared/status.ts'
import { createAppender } from './append.ts'
import type { Group } from './append.ts'
import { openBufferFile, sizeOf } from './file.ts'
import { openLanes } from './lanes.ts'
import { createLinger } from './linger.ts'
import { createOutbox } from './outbox.ts'
import type { OutgoingBatch } from './outbox.ts'
import { createSealer, RECKONED_READING_BYTES } from './sealing.ts'
import type { Sealed } from './sealing.ts'
import { createWindows } from './windows.ts'

export type StoreOptions = {
  path: string
  gateway: string
  /** The most that file and WAL may take, bytes. */
  maxBytes: number
  maxBatchBytes: number
  lingerMs: number
  dedupeWindowMs: number
  keepAckedMs: number
  /** For the control of the power-cut test only: anything but FULL loses acknowledged data. */
  synchronous: 'FULL' | 'NORMAL'
}

export type StoreFigures = {
  epoch: string
  sums: EpochSums[]
  pendingRecords: number
  /** Sealed bytes waiting, and what the unsealed records are reckoned with. */
  pendingBytes: number
  /** Arrival of the oldest pending record, µs; null when nothing waits. */
  oldestPendingUs: number | null
  /** Pages in use, and the WAL. */
  usedBytes: number
  maxBytes: number
  full: boolean
  /** Batches that the check beside collection proved, and found damaged, since the start. */
  checked: number
  damaged: number
  ignoredAcks: number
}

export type PacketKey = { client: string; packet: number }

/** `digest`: of the message, hex. */
export type StoredPacket = PacketKey & { digest: string }

export type Store = {
  /**
   * Takes groups in one transaction, and seals in it what became due. `sending`: a batch could be sent at once.
   * Returns whether a batch was sealed.
   * @throws AppError `buffer_full` when they don't fit below the cap or on the volume: then nothing was taken.
   */
  commit(groups: readonly Group[], sending: boolean): boolean
  /** Seals what is due by its age; true when a batch was made. */
  seal(sending: boolean): boolean
  /** How long until `seal` may find something due, ms; null: nothing waits. */
  sealDueInMs(sending: boolean): number | null
  pending(lane: Lane, afterId: number, limit: number): OutgoingBatch[]
  /** True for each answer that freed a batch; the others changed nothing and are counted. */
  acknowledge(acks: readonly Ack[]): boolean[]
  /** The ledger knows other bytes under this epoch's numbers: takes a new epoch and seals all unacknowledged again (in upkeep). */
  beginEpoch(): string
  /** A portion of the work beside collection: carries batches into a new epoch, deletes, checks. True: there is more to do. */
  upkeep(): boolean
  /** QoS 2 packets that were answered with PUBREC and not released. */
  packets(): StoredPacket[]
  releasePackets(packets: readonly PacketKey[], forgotten: readonly string[]): void
  /** The highest arrival time given as a timestamp before the opening, µs; 0 when there was none. */
  lastStampUs: number
  figures(): StoreFigures
  close(): void
}

/** Above this share of the cap the windows give way: acknowledged batches and sealed rows go at once. */
const PRESSED_SHARE = 0.8

/** This part of the cap is kept free, so that acknowledgements and deletions always have room. */
const RESERVED_SHARE = 1 / 16

/** What a reading's row, index entry and page share take in the file, bytes; reckoned high. */
const RECKONED_ROW_BYTES = 100

/** `clockMs`: monotonic. */
export function openStore(options: StoreOptions, clockMs: () => number): Store {
  const db = openBufferFile(options.path, options.maxBytes, options.synchronous)
  const lanes = openLanes(db)
  const appender = createAppender(db, lanes, randomUUID)
  const sealer = createSealer(db, lanes, { gateway: options.gateway, maxWireBytes: options.maxBatchBytes })
  const outbox = createOutbox(db, lanes)
  const windows = createWindows(db, lanes, clockMs)
  const pageBytes = Number(db.pragma('page_size', { simple: true }))
  const begin = db.prepare('BEGIN IMMEDIATE')
  const commit = db.prepare('COMMIT')
  const rollback = db.prepare('ROLLBACK')
  const receivedAfter = db
    .prepare<[number], number>('SELECT received FROM readings WHERE seq > ? ORDER BY seq LIMIT 1')
    .pluck()
  const unsealedRejects = db.prepare<[number], number>('SELECT COUNT(*) FROM rejects WHERE seq > ?').pluck()
  const selectPackets = db.prepare<[], StoredPacket>('SELECT client, packet, digest FROM packets')
  const deletePacket = db.prepare('DELETE FROM packets WHERE client = ? AND packet = ?')
  const deleteClient = db.prepare('DELETE FROM packets WHERE client = ?')

  const sealed = outbox.waiting()
  const linger = createLinger({ lingerMs: options.lingerMs, fullBytes: options.maxBatchBytes, clockMs })
  for (const lane of LANES) if (unsealed(lane) > 0) linger.took(lane, unsealed(lane) * RECKONED_READING_BYTES)
  try {
    outbox.checkTail(options.path)
  } catch (error) {
    db.close()
    throw error
  }
  let carrying = true
  let full = false
  let checked = 0
  let damaged = 0
  let ignoredAcks = 0

  function unsealed(lane: Lane): number {
    const state = lanes.current(lane)
    return state.nextSeq - 1 - state.sealedSeq
  }

  /** Memory follows only what was committed: on an error all that `work` changed is as before. */
  function transact<Result>(work: () => Result): Result {
    const undo = linger.save()
    begin.run()
    try {
      const result = work()
      commit.run()
      return result
    } catch (error) {
      if (db.inTransaction) rollback.run()
      undo()
      lanes.reload()
      appender.forget()
      if (codeOf(error) !== 'SQLITE_FULL') throw error
      throw new AppError('buffer_full', `buffer is full: no room left on the volume of ${options.path}`, {
        hint: 'free space there or reconnect the cloud',
        cause: error
      })
    }
  }

  function usedBytes(): number {
    const pages =
      Number(db.pragma('page_count', { simple: true })) - Number(db.pragma('freelist_count', { simple: true }))
    return pages * pageBytes + sizeOf(`${options.path}-wal`)
  }

  function isDue(lane: Lane, sending: boolean): boolean {
    return !carrying && linger.isDue(lane, unsealed(lane), sending)
  }

  function sealDue(sending: boolean): Sealed[] {
    const made: Sealed[] = []
    for (const lane of LANES) {
      while (isDue(lane, sending)) {
        const batch = sealer.seal(lane)
        if (batch === null) break
        made.push(batch)
        linger.sealed(lane, batch.reckonedBytes, unsealed(lane))
      }
    }
    return made
  }

  function addSealed(batches: readonly Sealed[]): void {
    for (const batch of batches) {
      sealed.records += batch.lastSeq - batch.firstSeq + 1
      sealed.bytes += batch.wireBytes
    }
  }

  /** True when more is left to delete. */
  function prune(rowsMs: number, keptMs: number): boolean {
    const undo = windows.save()
    try {
      return transact(() => windows.pruneKept(keptMs) || windows.pruneRows(rowsMs))
    } catch (error) {
      undo()
      throw error
    }
  }

  function fits(bytes: number): boolean {
    const limitBytes = options.maxBytes * (1 - RESERVED_SHARE) - bytes
    if (usedBytes() <= limitBytes) return true
    for (let more = true; more; ) more = prune(0, 0)
    db.pragma('wal_checkpoint(TRUNCATE)')
    return usedBytes() <= limitBytes
  }

  return {
    commit(groups, sending) {
      const fresh = { readings: 0, maintenance: 0 }
      let rowBytes = 0
      for (const group of groups) {
        const bytes = reckonedBytes(group)
        fresh.readings += bytes.readings
        fresh.maintenance += bytes.maintenance
        rowBytes += group.readings.count * RECKONED_ROW_BYTES
      }
      if (!fits(fresh.readings + fresh.maintenance + rowBytes)) {
        full = true
        throw new AppError('buffer_full', `buffer is full: ${gib(usedBytes())} of ${gib(options.maxBytes)} GiB`, {
          hint: 'raise EDGE_BUFFER_MAX_BYTES or reconnect the cloud'
        })
      }
      try {
        const made = transact(() => {
          for (const group of groups) appender.append(group)
          for (const lane of LANES) {
            lanes.save(lanes.current(lane))
            if (unsealed(lane) > 0) linger.took(lane, fresh[lane])
          }
          return sealDue(sending)
        })
        full = false
        addSealed(made)
        windows.mark()
        return made.length > 0
      } catch (error) {
        if (error instanceof AppError && error.code === 'buffer_full') full = true
        throw error
      }
    },
    seal(sending) {
      if (!LANES.some((lane) => isDue(lane, sending))) return false
      const made = transact(() => sealDue(sending))
      addSealed(made)
      return made.length > 0
    },
    sealDueInMs: (sending) => (sending && !carrying ? linger.dueInMs(unsealed('readings')) : null),
    pending: (lane, afterId, limit) => (carrying ? [] : outbox.pending(lane, afterId, limit)),
    acknowledge(acks) {
      const freed = transact(() => acks.map((ack) => outbox.acknowledge(ack)))
      return freed.map((batch) => {
        if (batch === null) {
          ignoredAcks += 1
          return false
        }
        sealed.records -= batch.records
        sealed.bytes -= batch.wireBytes
        windows.keep(batch.id)
        return true
      })
    },
    beginEpoch() {
      const epoch = transact(() => {
        const rejected = { readings: unsealedRejects.get(lanes.current('readings').sealedSeq) ?? 0, maintenance: 0 }
        const moved = LANES.map((lane) => ({ old: lanes.current(lane), records: unsealed(lane) }))
        const made = lanes.begin()
        for (const { old, records } of moved) {
          const state = lanes.current(old.lane)
          state.received = records
          state.accepted = records
          state.rejected = rejected[old.lane]
          lanes.save(state)
          lanes.save({
            ...old,
            received: old.received - records,
            accepted: old.accepted - records,
            rejected: old.rejected - rejected[old.lane]
          })
        }
        return made
      })
      carrying = true
      return epoch
    },
    upkeep() {
      if (carrying) {
        // The batch goes from one epoch to the other: records wait as before, bytes may differ a little.
        const carried = transact(() => sealer.carryOver())
        if (carried === null) carrying = false
        if (carried === 'damaged') damaged += 1
        Object.assign(sealed, outbox.waiting())
        return true
      }
      const pressed = usedBytes() > options.maxBytes * PRESSED_SHARE
      const keptMs = pressed ? 0 : options.keepAckedMs
      const rowsMs = pressed ? 0 : options.dedupeWindowMs
      const more = windows.isDue(rowsMs, keptMs) && prune(rowsMs, keptMs)
      const check = outbox.checkNext()
      if (check !== null) checked += 1
      if (check === 'damaged') damaged += 1
      return more || check !== null
    },
    packets: () => selectPackets.all(),
    releasePackets(packets, forgotten) {
      transact(() => {
        for (const { client, packet } of packets) deletePacket.run(client, packet)
        for (const client of forgotten) deleteClient.run(client)
      })
    },
    lastStampUs: lanes.current('readings').stamped,
    figures() {
      const oldest = [
        outbox.oldestReceivedUs('readings'),
        outbox.oldestReceivedUs('maintenance'),
        receivedAfter.get(lanes.current('readings').sealedSeq)
      ]
      const known = oldest.filter((receivedUs) => typeof receivedUs === 'number')
      return {
        epoch: lanes.epoch(),
        sums: lanes
          .all()
          .map(
            ({
              nextSeq: _next,
              stamped: _stamped,
              sealedSeq: _sealed,
              lastBatch: _batch,
              lastDigest: _digest,
              ...sums
            }) => ({
              ...sums,
              pending: sums.accepted - sums.evicted - sums.acknowledged
            })
          ),
        pendingRecords: sealed.records + unsealed('readings') + unsealed('maintenance'),
        pendingBytes: sealed.bytes + linger.bytes(),
        oldestPendingUs: known.length === 0 ? null : Math.min(...known),
        usedBytes: usedBytes(),
        maxBytes: options.maxBytes,
        full,
        checked,
        damaged,
        ignoredAcks
      }
    },
    close() {
      try {
        db.pragma('wal_checkpoint(TRUNCATE)')
      } catch (error) {
        // On a full volume the WAL stays: what it holds is safe there.
        if (codeOf(error) !== 'SQLITE_FULL') throw error
      }
      db.close()
    }
  }
}

/** Bytes that a group's records will take in a batch before compression, by lane. */
function reckonedBytes(group: Group): Record<Lane, number> {
  let readings = group.readings.count * RECKONED_READING_BYTES
  for (const text of group.readings.texts.values()) readings += text.length
  for (const reject of group.rejects) readings += reject.payload.length + reject.detail.length + reject.topic.length
  let maintenance = 0
  for (const event of group.events) maintenance += JSON.stringify(event).length
  return { readings, maintenance }
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(2)
}
