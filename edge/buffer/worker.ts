// The buffer's thread: an fsync of 50 ms on an SD card stalls nobody's keep-alives.
//
// All appends that wait when a transaction begins go into it: under load the group commit grows by itself. While the buffer is
// full, appends wait; after `fullWaitMs` they fail, and their publishes stay unacknowledged.
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { AppError, messageOf } from '../../shared/errors.ts'
import type { Group } from './append.ts'
import { createRecaller } from './interning.ts'
import type { Failure, FromBuffer, ToBuffer, WorkerOptions } from './message.ts'
import { openStore } from './store.ts'
import type { Store } from './store.ts'

/** The most records in one transaction. */
const COMMIT_RECORDS = 10_000
const UPKEEP_EVERY_MS = 250
/** Of the time beside collection, upkeep takes at most one part in this many. */
const UPKEEP_SHARE = 10

const port = parentPort
if (port === null) throw new Error('edge/buffer/worker.ts is run by edge/buffer/buffer.ts as a thread')
const options: WorkerOptions = workerData
const clockMs = () => performance.now()

type Append = { id: number; group: Group; sinceMs: number }

function tell(message: FromBuffer): void {
  port?.postMessage(message)
}

function failureOf(error: unknown): Failure {
  if (error instanceof AppError) return { code: error.code, message: error.message, hint: error.hint }
  return {
    code: 'buffer_unopened',
    message: `the buffer ${options.path} can't be opened and is left as it is: ${messageOf(error)}`,
    hint: 'check that this user may read and write it, and that the volume has room'
  }
}

/** Runs the store on messages from the main thread. Any error but a full buffer ends it: nothing is acknowledged afterwards. */
function serve(store: Store): void {
  const recall = createRecaller()
  let appends: Append[] = []
  let sending = false
  let sealTimer: NodeJS.Timeout | null = null
  let upkeepAtMs = 0
  let ended = false

  function guarded(work: () => void): void {
    if (ended) return
    try {
      work()
    } catch (error) {
      // Nothing was changed: appends wait for room, an acknowledgement comes again with the batch, upkeep is tried again.
      if (error instanceof AppError && error.code === 'buffer_full') return
      ended = true
      tell({ kind: 'fatal', message: messageOf(error) })
    }
  }

  function failFullAppends(failure: Failure): void {
    const limitMs = clockMs() - options.fullWaitMs
    const late = appends.filter((append) => append.sinceMs <= limitMs)
    if (late.length === 0) return
    appends = appends.filter((append) => append.sinceMs > limitMs)
    tell({ kind: 'failed', ids: late.map((append) => append.id), failure })
  }

  function commitAppends(): void {
    while (appends.length > 0) {
      let records = 0
      let count = 0
      for (const { group } of appends) {
        records += group.readings.count + group.rejects.length + group.events.length
        count += 1
        if (records >= COMMIT_RECORDS) break
      }
      const taken = appends.slice(0, count)
      try {
        const sealed = store.commit(
          taken.map((append) => append.group),
          sending
        )
        appends = appends.slice(count)
        tell({ kind: 'done', ids: taken.map((append) => append.id) })
        if (sealed) tell({ kind: 'sealed' })
      } catch (error) {
        if (!(error instanceof AppError) || error.code !== 'buffer_full') throw error
        failFullAppends(failureOf(error))
        return
      }
    }
  }

  function sealDue(): void {
    if (store.seal(sending)) tell({ kind: 'sealed' })
    const dueMs = store.sealDueInMs(sending)
    if (sealTimer !== null) clearTimeout(sealTimer)
    sealTimer = dueMs === null ? null : setTimeout(() => guarded(sealDue), Math.max(1, dueMs))
  }

  function upkeep(): void {
    guarded(() => {
      const startMs = clockMs()
      if (startMs < upkeepAtMs) return
      upkeepAtMs = startMs + UPKEEP_EVERY_MS
      if (store.upkeep()) upkeepAtMs = clockMs() + (clockMs() - startMs) * (UPKEEP_SHARE - 1)
    })
    guarded(() => commitAppends())
    guarded(() => sealDue())
    if (!ended) setTimeout(upkeep, Math.min(UPKEEP_EVERY_MS, Math.max(1, upkeepAtMs - clockMs())))
  }

  function answer(id: number, work: () => void): void {
    try {
      work()
      tell({ kind: 'done', ids: [id] })
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'buffer_full') throw error
      tell({ kind: 'failed', ids: [id], failure: failureOf(error) })
    }
  }

  function obey(message: ToBuffer): void {
    switch (message.kind) {
      case 'append':
        appends.push({
          id: message.id,
          group: { ...message.group, readings: recall(message.readings) },
          sinceMs: clockMs()
        })
        return
      case 'pending':
        tell({ kind: 'pending', id: message.id, batches: store.pending(message.lane, message.afterId, message.limit) })
        return
      case 'acknowledge':
        store.acknowledge(message.acks)
        return
      case 'release':
        answer(message.id, () => store.releasePackets(message.packets, message.forgotten))
        return
      case 'begin-epoch':
        answer(message.id, () => store.beginEpoch())
        return
      case 'sending':
        sending = message.sending
        return
      case 'figures':
        tell({ kind: 'figures', id: message.id, figures: store.figures() })
        return
      case 'close':
        commitAppends()
        ended = true
        if (sealTimer !== null) clearTimeout(sealTimer)
        store.close()
        tell({ kind: 'done', ids: [message.id] })
        port?.close()
        return
    }
  }

  function onMessage(first: ToBuffer): void {
    obey(first)
    while (!ended && port !== null) {
      const next: { message: ToBuffer } | undefined = receiveMessageOnPort(port)
      if (next === undefined) break
      obey(next.message)
    }
    if (ended) return
    commitAppends()
    sealDue()
  }

  port?.on('message', (message: ToBuffer) => guarded(() => onMessage(message)))
  upkeep()
}

try {
  const store = openStore(options, clockMs)
  tell({ kind: 'opened', lastStampUs: store.lastStampUs, packets: store.packets() })
  serve(store)
} catch (error) {
  tell({ kind: 'unopened', failure: failureOf(error) })
}
