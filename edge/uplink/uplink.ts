// Sends sealed batches to the cloud and frees them by the bridge's answers.
//
// A broker's PUBACK frees nothing: only an answer with exactly the batch's digest does. The lane of maintenance events has one
// batch in flight, so that its order at the bridge is the plant's; readings have a window.
import { ack } from '../../shared/ack.ts'
import type { Ack } from '../../shared/ack.ts'
import { LANES } from '../../shared/batch/envelope.ts'
import type { Lane } from '../../shared/batch/envelope.ts'
import { AppError, messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import { openConnection } from '../../shared/mqtt/connection.ts'
import type { ConnectionState, Delivery, Done, TlsOptions } from '../../shared/mqtt/connection.ts'
import { pause } from '../../shared/retry.ts'
import { offlineStatus } from '../../shared/status.ts'
import type { EdgeStatus } from '../../shared/status.ts'
import { topicOf } from '../../shared/topics.ts'
import type { EdgeBuffer } from '../buffer/buffer.ts'
import type { OutgoingBatch } from '../buffer/outbox.ts'
import type { LatestValues } from '../latest.ts'
import { createFlight } from './flight.ts'

export type UplinkFigures = {
  state: ConnectionState
  inFlight: number
  resends: number
  sentBatches: number
  sentBytes: number
  /** Answers that named no batch in flight, or could not be read. */
  strayAnswers: number
  acknowledgedRecords: number
  /** When the last batch was freed, wall clock ms; null: none since the start. */
  lastAckAtMs: number | null
  /** Why sending is held, for an operator; null when it isn't. */
  held: string | null
}

export type Uplink = {
  figures(): UplinkFigures
  close(): Promise<void>
}

const WINDOWS: Record<Lane, number> = { readings: 8, maintenance: 1 }
const TICK_MS = 250
const LATEST_EVERY_MS = 1_000
const STATUS_EVERY_MS = 10_000
const LATEST_SENSORS = 500

/** How long closing waits for the broker to take the last status. */
const FAREWELL_MS = 1_000

/** How long sending stops after an answer that sending again won't change. */
const HOLD_MS = 60_000

export function startUplink(options: {
  url: string
  gateway: string
  buffer: EdgeBuffer
  latest: Pick<LatestValues, 'takeChanged'>
  status: () => Promise<EdgeStatus>
  tls?: TlsOptions
  /** Wall clock, ms. */
  now: () => number
  /** Monotonic, ms. */
  clockMs: () => number
  random?: () => number
  log: Log
}): Uplink {
  const { buffer, gateway, log, clockMs } = options
  const random = options.random ?? Math.random
  const flights = {
    readings: createFlight({ maxWindow: WINDOWS.readings, inOrder: false, clockMs, random }),
    maintenance: createFlight({ maxWindow: WINDOWS.maintenance, inOrder: true, clockMs, random })
  }
  const filling: Record<Lane, boolean> = { readings: false, maintenance: false }
  let state: ConnectionState = { phase: 'connecting' }
  let held: { reason: string; untilMs: number } | null = null
  let generation = 0
  let closing = false
  let answers: Ack[] = []
  let latestAtMs = 0
  let statusAtMs = 0
  const figures = { sentBatches: 0, sentBytes: 0, strayAnswers: 0, acknowledgedRecords: 0 }
  let lastAckAtMs: number | null = null

  const connection = openConnection({
    url: options.url,
    clientId: `millrace-edge-${gateway}`,
    clean: true,
    receiveMaximum: 100,
    subscriptions: [{ filter: topicOf(gateway, 'ack'), qos: 1 }],
    will: { topic: topicOf(gateway, 'status'), payload: JSON.stringify(offlineStatus(gateway)), qos: 1, retain: true },
    onDelivery,
    onState,
    ...(options.tls === undefined ? {} : { tls: options.tls }),
    log
  })
  buffer.onSealed(() => fillAll())
  const ticker = setInterval(tick, TICK_MS)

  function isReady(): boolean {
    return state.phase === 'connected' && state.subscribed && held === null && !closing
  }

  function tellBuffer(): void {
    buffer.setSending(isReady() && flights.readings.room() > 0)
  }

  function onState(next: ConnectionState): void {
    const wasReady = isReady()
    state = next
    if (!wasReady && isReady()) {
      for (const lane of LANES) for (const batch of flights[lane].takeAll()) send(batch)
      statusAtMs = 0
      fillAll()
    }
    tellBuffer()
  }

  function send(batch: OutgoingBatch): void {
    figures.sentBatches += 1
    figures.sentBytes += batch.wire.length
    connection.publish(topicOf(gateway, 'batch'), batch.wire, { qos: 1 }).catch((error: unknown) => {
      // It stays in flight: sent again after reconnecting, or when its answer is late.
      log.debug(
        { batch: batch.batch, lane: batch.lane, reason: messageOf(error) },
        'a batch was not taken by the broker'
      )
    })
  }

  async function fill(lane: Lane): Promise<void> {
    const flight = flights[lane]
    if (filling[lane]) return
    filling[lane] = true
    try {
      while (isReady() && flight.room() > 0) {
        const before = generation
        const batches = await buffer.pending(lane, flight.newestId(), flight.room())
        if (before !== generation) continue
        if (batches.length === 0 || !isReady()) break
        for (const batch of batches) {
          flight.sent(batch)
          send(batch)
        }
      }
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      log.debug({ reason: error.message }, 'the buffer gives no batches')
    } finally {
      filling[lane] = false
    }
    tellBuffer()
  }

  function fillAll(): void {
    for (const lane of LANES) void fill(lane)
  }

  function onDelivery(delivery: Delivery, done: Done): void {
    done(null)
    const answer = readAnswer(delivery.payload)
    const lane =
      answer === null
        ? undefined
        : LANES.find((name) => answer.digest !== null && flights[name].find(answer.digest) !== null)
    if (answer === null || lane === undefined || answer.digest === null) {
      figures.strayAnswers += 1
      // An answer to a batch that isn't in flight any more may still free it: the buffer decides by the digest.
      if (answer !== null) passOn(answer)
      return
    }
    const batch = flights[lane].find(answer.digest)
    switch (answer.result) {
      case 'committed':
      case 'replay':
        flights[lane].answered(answer.digest)
        figures.acknowledgedRecords += batch?.records ?? 0
        lastAckAtMs = options.now()
        passOn(answer)
        return
      case 'unsupported_version':
        return hold('the bridge does not understand batches of this version; update the bridge')
      case 'refused':
        return onRefused(answer, lane, answer.digest)
    }
  }

  function onRefused(answer: Ack, lane: Lane, digest: string): void {
    switch (answer.reason) {
      case 'fork':
      case 'folded':
        return renew(answer)
      case 'wrong_digest':
        log.warn({ batch: answer.batch, lane }, 'a batch arrived damaged and is sent again')
        flights[lane].delay(digest)
        return
      default:
        return hold(
          `the bridge refused a batch (${answer.reason ?? 'no reason given'}); check that EDGE_GATEWAY_ID and the broker's credential name the same gateway`
        )
    }
  }

  /** Answers of one turn go to the buffer together: one transaction. */
  function passOn(answer: Ack): void {
    answers.push(answer)
    if (answers.length > 1) return
    setImmediate(() => {
      const taken = answers
      answers = []
      buffer.acknowledge(taken)
      fillAll()
    })
  }

  function hold(reason: string): void {
    if (held?.reason !== reason) log.error({ reason }, 'sending is held')
    held = { reason, untilMs: clockMs() + HOLD_MS }
    tellBuffer()
  }

  /** The ledger has other bytes under this epoch's numbers: this buffer was cloned or restored. */
  function renew(answer: Ack): void {
    log.error(
      { epoch: answer.epoch, lane: answer.lane, batch: answer.batch },
      'the cloud has other data under this gateway’s numbers: was the buffer copied or restored? Going on in a new epoch'
    )
    generation += 1
    held = { reason: 'taking a new epoch', untilMs: Number.POSITIVE_INFINITY }
    for (const lane of LANES) flights[lane].clear()
    buffer.beginEpoch().then(
      () => {
        generation += 1
        held = null
        fillAll()
      },
      (error: unknown) => log.error({ err: error }, 'no new epoch could be made')
    )
  }

  function tick(): void {
    const nowMs = clockMs()
    if (held !== null && held.untilMs <= nowMs) held = null
    if (isReady()) {
      for (const lane of LANES) for (const batch of flights[lane].takeLate()) send(batch)
      fillAll()
      if (nowMs - latestAtMs >= LATEST_EVERY_MS) {
        latestAtMs = nowMs
        sendLatest()
      }
    }
    if (state.phase === 'connected' && !closing && nowMs - statusAtMs >= STATUS_EVERY_MS) {
      statusAtMs = nowMs
      void sendStatus()
    }
    tellBuffer()
  }

  function sendLatest(): void {
    const changed = options.latest.takeChanged(LATEST_SENSORS)
    if (changed.length === 0) return
    const sensors = Object.fromEntries(
      changed.map(([id, { timestampUs, value, quality }]) => [id, { timestamp_us: timestampUs, value, quality }])
    )
    connection.publish(topicOf(gateway, 'latest'), JSON.stringify({ sensors }), { qos: 0 }).catch(ignoreLost)
  }

  async function sendStatus(): Promise<void> {
    try {
      await connection.publish(topicOf(gateway, 'status'), JSON.stringify(await options.status()), {
        qos: 1,
        retain: true
      })
    } catch (error) {
      ignoreLost(error)
    }
  }

  /** Status and latest values are said again; what a lost connection took of them is no loss. */
  function ignoreLost(error: unknown): void {
    log.debug({ reason: messageOf(error) }, 'status or latest values were not sent')
  }

  return {
    figures: () => ({
      ...figures,
      state,
      inFlight: flights.readings.inFlight() + flights.maintenance.inFlight(),
      resends: flights.readings.resends() + flights.maintenance.resends(),
      lastAckAtMs,
      held: held?.reason ?? null
    }),
    async close() {
      closing = true
      clearInterval(ticker)
      tellBuffer()
      if (state.phase === 'connected') {
        const status = { ...offlineStatus(gateway), problems: ['offline: stopped'] }
        const farewell = connection.publish(topicOf(gateway, 'status'), JSON.stringify(status), {
          qos: 1,
          retain: true
        })
        await Promise.race([farewell.catch(ignoreLost), pause(FAREWELL_MS)])
      }
      await connection.close()
    }
  }
}

function readAnswer(payload: Uint8Array): Ack | null {
  try {
    const parsed = ack.safeParse(JSON.parse(Buffer.from(payload).toString('utf8')))
    return parsed.success ? parsed.data : null
  } catch {
    return null
  }
}
