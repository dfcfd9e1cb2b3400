// Batches from the broker to the writer, and the answers back.
//
// Guarantees: a batch is acknowledged to the broker only after it is committed or refused for good and its answer was
// given to the broker or could not be, or when a newer copy of it is held in its place; whatever arrives, at most `maxHeldBatches` and about `maxHeldBytes` are held, the
// rest waits at the broker. Not guaranteed: that an answer arrives; an edge without one sends the batch again.
import { AppError, messageOf } from '../../shared/errors.ts'
import type { Ack } from '../../shared/ack.ts'
import { hexOf, openEnvelope } from '../../shared/batch/envelope.ts'
import type { Envelope } from '../../shared/batch/envelope.ts'
import type { Log } from '../../shared/log.ts'
import { openConnection } from '../../shared/mqtt/connection.ts'
import type { ConnectionState, Delivery, Done, MqttConnection, TlsOptions } from '../../shared/mqtt/connection.ts'
import { filterOf, parseTopic, topicOf } from '../../shared/topics.ts'
import { refused } from './arrival.ts'
import type { Arrived, Outcome } from './arrival.ts'
import type { Writer } from './write.ts'

const MAX_HELD_BYTES = 32 * 2 ** 20
const MAX_HELD_BATCHES = 512
/** Bridges of one broker share the batches. */
const SHARE = '$share/bridge/'

/** Since the start of the process. */
export type ReceiverCounts = {
  received: number
  /** Delivered again by the broker, replayed as retained, or sent with QoS 0: handled like the others. */
  redelivered: number
  retained: number
  unacknowledged: number
  /** Not passed on to the writer. */
  foreignTopic: number
  wrongGateway: number
  wrongDigest: number
  unsupportedVersion: number
  unreadable: number
  /** Answers that did not reach the broker. */
  answersLost: number
}

export type Receiver = {
  state(): { connection: ConnectionState; shared: boolean; held: number; counts: ReceiverCounts }
  /** Stops taking batches. What isn't answered yet is sent again by the broker or the edge. */
  close(): Promise<void>
}

export function startReceiver(options: {
  /** The broker, with user and password where needed. */
  url: string
  clientId: string
  writer: Writer
  log: Log
  maxHeldBytes?: number
  maxHeldBatches?: number
  /** False: subscribe alone, also where the broker could share among bridges. */
  shared?: boolean
  tls?: TlsOptions
  retry?: { baseMs: number; capMs: number }
}): Receiver {
  const { writer, log } = options
  const counts: ReceiverCounts = {
    received: 0,
    redelivered: 0,
    retained: 0,
    unacknowledged: 0,
    foreignTopic: 0,
    wrongGateway: 0,
    wrongDigest: 0,
    unsupportedVersion: 0,
    unreadable: 0,
    answersLost: 0
  }
  let shared = options.shared ?? true
  let closed = false
  let connection = connect()

  function connect(): MqttConnection {
    return openConnection({
      url: options.url,
      clientId: options.clientId,
      // A session that outlived its bridge would go on taking its share of the batches.
      clean: true,
      receiveMaximum: options.maxHeldBatches ?? MAX_HELD_BATCHES,
      maxHeldBytes: options.maxHeldBytes ?? MAX_HELD_BYTES,
      subscriptions: [{ filter: `${shared ? SHARE : ''}${filterOf('batch')}`, qos: 1 }],
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      ...(options.retry === undefined ? {} : { retry: options.retry }),
      onDelivery,
      onState,
      log
    })
  }

  /** A broker without shared subscriptions gets a plain one, over a connection of its own. */
  function onState(state: ConnectionState): void {
    if (!shared || closed || state.phase !== 'connected') return
    if (state.sharedSubscriptions && state.refusedFilters.length === 0) return
    shared = false
    log.info('the broker has no shared subscriptions, subscribing alone')
    const former = connection
    void former.close().then(() => {
      if (!closed) connection = connect()
    })
  }

  function onDelivery(delivery: Delivery, done: Done): void {
    counts.received += 1
    if (delivery.duplicate) counts.redelivered += 1
    if (delivery.retained) counts.retained += 1
    if (delivery.qos === 0) counts.unacknowledged += 1
    const topic = parseTopic(delivery.topic)
    if (topic === null) {
      counts.foreignTopic += 1
      return done(null)
    }
    handle(topic.gateway, ownBytes(delivery.payload)).then(
      () => done(null),
      (error: unknown) => {
        if (!closed) log.warn({ gateway: topic.gateway, reason: messageOf(error) }, 'batch left to the broker')
        done(error instanceof Error ? error : new Error(messageOf(error)))
      }
    )
  }

  async function handle(gateway: string, wire: Uint8Array): Promise<void> {
    let envelope: Envelope
    try {
      envelope = openEnvelope(wire)
    } catch (error) {
      return answer(gateway, await refuseUnopened(gateway, wire, error))
    }
    if (envelope.header.gateway !== gateway) {
      counts.wrongGateway += 1
      log.warn({ gateway, named: envelope.header.gateway }, 'batch of another gateway refused')
      return answer(gateway, ackOf(envelope, refused('wrong_gateway'), 'refused'))
    }
    const outcome = await store({ kind: 'batch', envelope, wire })
    // The newer copy is answered.
    if (outcome.result === 'superseded') return
    if (outcome.reason === 'fork')
      log.error({ gateway, batch: envelope.header.batch }, 'batch of a cloned or restored gateway refused')
    return answer(gateway, ackOf(envelope, outcome, outcome.result))
  }

  async function store(arrived: Arrived): Promise<Outcome> {
    const [outcome] = await writer.write([arrived])
    if (outcome === undefined) throw new Error('the writer gave no outcome')
    return outcome
  }

  async function refuseUnopened(gateway: string, wire: Uint8Array, error: unknown): Promise<Ack> {
    const detail = messageOf(error)
    const digest = error instanceof AppError && typeof error.cause === 'string' ? error.cause : null
    if (error instanceof AppError && error.code === 'batch_unsupported_version') {
      counts.unsupportedVersion += 1
      log.error({ gateway, detail }, 'batch of a newer version: update the bridge before the edges')
      return { ...NO_FACTS, result: 'unsupported_version', reason: null, digest }
    }
    if (error instanceof AppError && error.code === 'batch_wrong_digest') {
      counts.wrongDigest += 1
      log.warn({ gateway, digest }, 'batch refused, its bytes were changed on their way')
      return { ...NO_FACTS, result: 'refused', reason: 'wrong_digest', digest }
    }
    counts.unreadable += 1
    log.warn({ gateway, bytes: wire.length, detail }, 'not a batch, kept as a dead letter')
    await store({ kind: 'unreadable', gateway, wire, detail })
    return { ...NO_FACTS, result: 'refused', reason: 'unreadable', digest }
  }

  /** Resolves also when the answer is lost. */
  async function answer(gateway: string, ack: Ack): Promise<void> {
    try {
      await connection.publish(topicOf(gateway, 'ack'), JSON.stringify(ack), { qos: 1 })
    } catch (error) {
      counts.answersLost += 1
      log.debug(
        { gateway, batch: ack.batch, reason: messageOf(error) },
        'answer lost, the edge will send the batch again'
      )
    }
  }

  return {
    state: () => ({ connection: connection.state(), shared, held: connection.heldDeliveries(), counts: { ...counts } }),
    async close() {
      closed = true
      await connection.close()
    }
  }
}

const NO_FACTS = {
  epoch: null,
  lane: null,
  batch: null,
  first_seq: null,
  last_seq: null,
  digest: null,
  stored: 0,
  duplicates: 0,
  dead_letters: 0
} satisfies Partial<Ack>

/** The digest is that of the bytes that were sent, for a tombstone too: by it the edge knows what is answered. */
function ackOf({ header, digest }: Envelope, outcome: Outcome, result: Ack['result']): Ack {
  return {
    result,
    reason: outcome.reason,
    epoch: header.epoch,
    lane: header.lane,
    batch: header.batch,
    first_seq: header.firstSeq,
    last_seq: header.lastSeq,
    digest: hexOf(digest),
    stored: outcome.stored,
    duplicates: outcome.duplicates,
    dead_letters: outcome.deadLetters
  }
}

/** A batch may wait for long: a small one must not keep the whole of what was read with it. */
function ownBytes(payload: Uint8Array): Uint8Array {
  return payload.buffer.byteLength > 2 * payload.length ? Uint8Array.from(payload) : payload
}
