// The buffer as the rest of the edge sees it: a handle on its thread.
import { existsSync, renameSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import type { Ack } from '../../shared/ack.ts'
import type { Lane } from '../../shared/batch/envelope.ts'
import { AppError, messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { Group } from './append.ts'
import { createInterner } from './interning.ts'
import type { InternedReadings } from './interning.ts'
import type { Failure, FromBuffer, ToBuffer, WorkerOptions } from './message.ts'
import type { OutgoingBatch } from './outbox.ts'
import type { PacketKey, StoredPacket, StoreFigures, StoreOptions } from './store.ts'

export type BufferOptions = Omit<StoreOptions, 'synchronous'> & {
  synchronous?: StoreOptions['synchronous']
  /** How long an append waits for room before it fails, ms. */
  fullWaitMs?: number
  log: Log
  /** The buffer can't go on: the process must end. */
  onFatal: (error: AppError) => void
}

export type EdgeBuffer = {
  /**
   * Resolves when the group is on the disk; takes its columns over. In order: an earlier group is never later than a later one.
   * @throws AppError `buffer_full` after waiting `fullWaitMs` for room; `closed`. Then nothing of the group was kept.
   */
  append(group: Group): Promise<void>
  /** Unacknowledged sealed batches of a lane with ids over `afterId`, oldest first. */
  pending(lane: Lane, afterId: number, limit: number): Promise<OutgoingBatch[]>
  /** Applied in the background; an answer that fits no waiting batch is counted and changes nothing. */
  acknowledge(acks: Ack[]): void
  beginEpoch(): Promise<void>
  /** Whether a batch could be sent at once: sealing then lingers a little, else until a batch is full. */
  setSending(sending: boolean): void
  /** Called whenever a batch was sealed. */
  onSealed(listener: () => void): void
  releasePackets(packets: PacketKey[], forgotten: string[]): Promise<void>
  figures(): Promise<StoreFigures>
  /** What was in the file at the opening. */
  readonly opened: { lastStampUs: number; packets: StoredPacket[]; setAside: string | null }
  /** Commits what waits, and closes the file. */
  close(): Promise<void>
}

const FULL_WAIT_MS = 10_000

type Waiter = { resolve: (message: FromBuffer) => void; reject: (error: AppError) => void }

/**
 * Opens the buffer, in a folder that is there. A file that is broken is set aside with its name changed, never a reason not to start.
 * @throws AppError `buffer_in_use`, `buffer_foreign`
 */
export async function openBuffer(options: BufferOptions): Promise<EdgeBuffer> {
  try {
    return await openThread(options, null)
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'buffer_broken') throw error
    const setAside = `${options.path}.broken-${new Date().toISOString().replaceAll(':', '')}`
    for (const suffix of ['', '-wal', '-shm']) {
      if (existsSync(options.path + suffix)) renameSync(options.path + suffix, setAside + suffix)
    }
    options.log.error(
      { problem: error.message, setAside },
      'the buffer file is broken and was set aside; what it held is not sent'
    )
    return await openThread(options, setAside)
  }
}

function openThread(options: BufferOptions, setAside: string | null): Promise<EdgeBuffer> {
  const { log, onFatal, ...storeOptions } = options
  const workerData: WorkerOptions = { synchronous: 'FULL', fullWaitMs: FULL_WAIT_MS, ...storeOptions }
  const extension = import.meta.filename.endsWith('.ts') ? 'ts' : 'js'
  const worker = new Worker(new URL(`./worker.${extension}`, import.meta.url), { workerData })
  const intern = createInterner()
  const waiters = new Map<number, Waiter>()
  const listeners: (() => void)[] = []
  let lastId = 0
  let end: AppError | null = null

  function finish(error: AppError): void {
    end ??= error
    for (const waiter of waiters.values()) waiter.reject(error)
    waiters.clear()
  }

  function settle(ids: number[], act: (waiter: Waiter) => void): void {
    for (const id of ids) {
      const waiter = waiters.get(id)
      waiters.delete(id)
      if (waiter !== undefined) act(waiter)
    }
  }

  function onMessage(message: FromBuffer): void {
    switch (message.kind) {
      case 'done':
        return settle(message.ids, (waiter) => waiter.resolve(message))
      case 'failed':
        return settle(message.ids, (waiter) => waiter.reject(errorOf(message.failure)))
      case 'pending':
      case 'figures':
        return settle([message.id], (waiter) => waiter.resolve(message))
      case 'sealed':
        for (const listener of listeners) listener()
        return
      case 'fatal': {
        const error = new AppError('buffer_broken', `the buffer failed and can't go on: ${message.message}`, {
          hint: 'the process ends without acknowledging anything more; check the volume, then start it again'
        })
        finish(error)
        onFatal(error)
        return
      }
    }
  }

  function tell(message: ToBuffer, moved: ArrayBuffer[] = []): void {
    worker.postMessage(message, moved)
  }

  function ask(make: (id: number) => ToBuffer, moved: ArrayBuffer[] = []): Promise<FromBuffer> {
    return new Promise((resolve, reject) => {
      if (end !== null) return reject(end)
      lastId += 1
      waiters.set(lastId, { resolve, reject })
      tell(make(lastId), moved)
    })
  }

  function handle(opened: EdgeBuffer['opened']): EdgeBuffer {
    return {
      opened,
      async append(group) {
        const { readings, ...rest } = group
        const interned = intern(readings)
        await ask((id) => ({ kind: 'append', id, group: rest, readings: interned }), buffersOf(interned))
      },
      async pending(lane, afterId, limit) {
        const answer = await ask((id) => ({ kind: 'pending', id, lane, afterId, limit }))
        return answer.kind === 'pending' ? answer.batches : []
      },
      acknowledge(acks) {
        if (end === null) tell({ kind: 'acknowledge', acks })
      },
      async beginEpoch() {
        await ask((id) => ({ kind: 'begin-epoch', id }))
      },
      setSending(sending) {
        if (end === null) tell({ kind: 'sending', sending })
      },
      onSealed: (listener) => void listeners.push(listener),
      async releasePackets(packets, forgotten) {
        await ask((id) => ({ kind: 'release', id, packets, forgotten }))
      },
      async figures() {
        const answer = await ask((id) => ({ kind: 'figures', id }))
        if (answer.kind !== 'figures') throw new Error('the buffer answered out of order')
        return answer.figures
      },
      async close() {
        if (end !== null) return
        const closing = ask((id) => ({ kind: 'close', id }))
        end = new AppError('closed', 'the buffer is closed')
        await closing
        await worker.terminate()
      }
    }
  }

  return new Promise((resolve, reject) => {
    worker.on('error', (error) => {
      const failure = new AppError('buffer_broken', `the buffer's thread failed: ${messageOf(error)}`, { cause: error })
      finish(failure)
      onFatal(failure)
    })
    worker.once('message', (message: FromBuffer) => {
      if (message.kind === 'opened') {
        worker.on('message', onMessage)
        resolve(handle({ lastStampUs: message.lastStampUs, packets: message.packets, setAside }))
        return
      }
      const failure =
        message.kind === 'unopened'
          ? errorOf(message.failure)
          : new AppError('buffer_broken', 'the buffer did not open')
      void worker.terminate().then(() => reject(failure))
    })
    log.debug({ path: options.path }, 'opening the buffer')
  })
}

/** The columns' memory goes over to the thread, uncopied. */
function buffersOf(readings: InternedReadings): ArrayBuffer[] {
  const columns = [
    readings.sensor,
    readings.timestampUs,
    readings.receivedUs,
    readings.quality,
    readings.kind,
    readings.number
  ]
  return columns.map((column) => column.buffer).filter((buffer) => buffer instanceof ArrayBuffer)
}

function errorOf(failure: Failure): AppError {
  return new AppError(failure.code, failure.message, failure.hint === null ? {} : { hint: failure.hint })
}
