// Where both doors lead: a message is decoded, its records join the group that is being collected, and its publisher is
// answered when the group is on the disk.
//
// A group ends with the commit window, or early when it is full, or with a quarter of that when the buffer is idle; with a window of 0 at the end of
// the event loop's turn. While
// the buffer is behind by `MAX_HELD_*`, the doors are asked to wait (`isSaturated`); QoS 0 messages, which have no
// acknowledgement to withhold, are then left out and counted.
import type { Decoded, Message } from './decode/decode.ts'
import type { EdgeBuffer } from './buffer/buffer.ts'
import type { Group } from './buffer/append.ts'
import type { StoredPacket } from './buffer/store.ts'
import { createColumnBuilder } from '../shared/batch/columns.ts'
import { AppError, messageOf } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { MAX_TIMESTAMP_US } from '../shared/reading.ts'
import type { Reading } from '../shared/reading.ts'
import { ROOT } from '../shared/topics.ts'
import type { LatestValues } from './latest.ts'

export type Incoming = {
  topic: string
  payload: Uint8Array
  qos: 0 | 1 | 2
  /** A retained message that a broker repeats because we subscribed: without a time of its own it would be an invented reading. */
  replayed: boolean
  /** For QoS 2: kept with the records until the packet is released. */
  packet: StoredPacket | null
}

/** Called once: null when the records are on the disk, else why they are not. */
export type Done = (error: AppError | null) => void

export type IntakeFigures = {
  messages: number
  bytes: number
  rejects: number
  /** QoS 0 messages left out because the buffer was behind. */
  dropped: number
  heldMessages: number
  heldBytes: number
}

export type Intake = {
  take(message: Incoming, done: Done): void
  isSaturated(): boolean
  /** Called each time the intake can take more again. */
  onRelief(listener: () => void): void
  figures(): IntakeFigures
  /** Ends the group that is being collected; resolves when all that was taken is answered. */
  close(): Promise<void>
}

/** A group is full with this many records or bytes of payload. */
const FULL_RECORDS = 256
const FULL_BYTES = 256 * 1_024

/** While the buffer has nothing to do, so many don't wait for more: under load the next group grows while this one is written. */
const EARLY_RECORDS = 64

/** What may be taken and not yet be on the disk. */
const MAX_HELD_MESSAGES = 20_000
const MAX_HELD_BYTES = 16 * 2 ** 20

/** How many sensors' last stamped times are remembered; a sensor beyond starts from the floor of the time they were forgotten. */
const MAX_STAMPED_SENSORS = 100_000

type Collecting = {
  builder: ReturnType<typeof createColumnBuilder>
  group: Omit<Group, 'readings'>
  records: number
  bytes: number
  dones: Done[]
}

function startCollecting(): Collecting {
  return {
    builder: createColumnBuilder(FULL_RECORDS),
    group: { rejects: [], events: [], filtered: 0, stampedUs: 0, packets: [] },
    records: 0,
    bytes: 0,
    dones: []
  }
}

export function createIntake(options: {
  decode: (message: Message) => Decoded
  buffer: Pick<EdgeBuffer, 'append' | 'opened'>
  latest: Pick<LatestValues, 'note'>
  commitWindowMs: number
  /** Wall clock, ms. */
  now: () => number
  newId: () => string
  log: Log
}): Intake {
  const stamped = new Map<string, number>()
  let stampFloorUs = options.buffer.opened.lastStampUs
  let collecting = startCollecting()
  let cancelTimer: (() => void) | null = null
  let closed = false
  let saturated = false
  let appending = 0
  let idle: (() => void) | null = null
  const listeners: (() => void)[] = []
  const figures: IntakeFigures = { messages: 0, bytes: 0, rejects: 0, dropped: 0, heldMessages: 0, heldBytes: 0 }

  /** The arrival time, strictly increasing per sensor, across restarts and steps of the clock. */
  function stamp(sensorId: string, receivedUs: number): number {
    const timestampUs = Math.max(receivedUs, (stamped.get(sensorId) ?? stampFloorUs) + 1)
    if (stamped.size >= MAX_STAMPED_SENSORS && !stamped.has(sensorId)) {
      for (const lastUs of stamped.values()) stampFloorUs = Math.max(stampFloorUs, lastUs)
      stamped.clear()
    }
    stamped.set(sensorId, timestampUs)
    collecting.group.stampedUs = Math.max(collecting.group.stampedUs, timestampUs)
    return timestampUs
  }

  function addReading(reading: Reading, receivedUs: number): void {
    const timestampUs = reading.timestampUs ?? stamp(reading.sensor.id, receivedUs)
    collecting.builder.add({
      sensor: reading.sensor,
      timestampUs,
      receivedUs,
      quality: reading.quality,
      value: reading.value
    })
    options.latest.note(reading.sensor, timestampUs, reading.value, reading.quality)
  }

  function release(messages: number, bytes: number): void {
    figures.heldMessages -= messages
    figures.heldBytes -= bytes
    if (!saturated || figures.heldMessages > MAX_HELD_MESSAGES / 2 || figures.heldBytes > MAX_HELD_BYTES / 2) return
    saturated = false
    for (const listener of listeners) listener()
  }

  function flush(): void {
    cancelTimer?.()
    cancelTimer = null
    const { builder, group, bytes, dones } = collecting
    if (dones.length === 0) return
    collecting = startCollecting()
    appending += 1
    function settle(error: AppError | null): void {
      appending -= 1
      release(dones.length, bytes)
      for (const done of dones) done(error)
      if (appending === 0 && collecting.records >= EARLY_RECORDS) flush()
      if (appending === 0) idle?.()
    }
    options.buffer.append({ ...group, readings: builder.finish() }).then(
      () => settle(null),
      (error: unknown) =>
        settle(error instanceof AppError ? error : new AppError('buffer_broken', messageOf(error), { cause: error }))
    )
  }

  function schedule(): void {
    const enough = appending === 0 ? EARLY_RECORDS : FULL_RECORDS
    if (collecting.records >= enough || collecting.bytes >= FULL_BYTES) return flush()
    if (cancelTimer !== null) return
    if (options.commitWindowMs > 0) {
      const timer = setTimeout(flush, options.commitWindowMs)
      cancelTimer = () => clearTimeout(timer)
    } else {
      const turn = setImmediate(flush)
      cancelTimer = () => clearImmediate(turn)
    }
  }

  function take(message: Incoming, done: Done): void {
    if (closed) return done(new AppError('closed', 'the intake is closed'))
    if (message.topic.startsWith(ROOT)) return done(null)
    if (saturated && message.qos === 0) {
      figures.dropped += 1
      return done(null)
    }
    const receivedUs = Math.min(options.now() * 1_000, MAX_TIMESTAMP_US)
    const decoded = options.decode({
      topic: message.topic,
      payload: message.payload,
      retained: message.replayed,
      receivedUs,
      newId: options.newId
    })
    const { group } = collecting
    for (const reading of decoded.readings) {
      if (message.replayed && reading.timestampUs === null) group.filtered += 1
      else addReading(reading, receivedUs)
    }
    for (const reject of decoded.rejects) group.rejects.push(reject)
    for (const event of decoded.events) group.events.push(event)
    if (message.packet !== null) group.packets.push(message.packet)
    figures.messages += 1
    figures.bytes += message.payload.length
    figures.rejects += decoded.rejects.length
    figures.heldMessages += 1
    figures.heldBytes += message.payload.length
    collecting.records += decoded.readings.length + decoded.rejects.length + decoded.events.length
    collecting.bytes += message.payload.length
    collecting.dones.push(done)
    saturated ||= figures.heldMessages >= MAX_HELD_MESSAGES || figures.heldBytes >= MAX_HELD_BYTES
    schedule()
  }

  return {
    take,
    isSaturated: () => saturated,
    onRelief: (listener) => void listeners.push(listener),
    figures: () => ({ ...figures }),
    async close() {
      closed = true
      flush()
      if (appending > 0) await new Promise<void>((resolve) => (idle = resolve))
    }
  }
}
