// The plant's gateway to MQTT: samples all sensors in step with the clock and publishes each reading with QoS 1.
import { connect } from 'mqtt'
import { messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import { pause } from '../../shared/retry.ts'
import type { Plant } from '../plant.ts'
import type { PlantEvent } from './maintenance.ts'
import { eventPayload, readingPayload } from './payload.ts'

export type Publisher = {
  /** Readings since the start. `skipped`: not measured, because too many waited for their acknowledgement. */
  figures(): { published: number; acknowledged: number; skipped: number; events: number }
  /** Publishes the plant's last events, waits for what isn't acknowledged, and ends; runs once. */
  close(): Promise<void>
}

/** With an edge that takes nothing, what waits in memory stays bounded. */
const MAX_WAITING = 20_000
const LAST_ACKNOWLEDGEMENTS_MS = 2_000
const POLL_MS = 10
const RECONNECT_MS = 500

/** `rateHz`: samples per second of every sensor. */
export function startPublisher(options: {
  url: string
  plant: Plant
  rateHz: number
  now: () => number
  log: Log
}): Publisher {
  const { plant, now, log } = options
  const periodMs = 1_000 / options.rateHz
  const client = connect(options.url, {
    clientId: 'millrace-plant',
    protocolVersion: 4,
    clean: true,
    reconnectPeriod: RECONNECT_MS
  })
  client.on('error', (error) => log.warn({ reason: messageOf(error) }, 'the plant has no connection'))
  client.on('connect', () => log.info('the plant is connected'))
  client.on('close', () => log.info('the plant’s connection is closed'))

  const figures = { published: 0, acknowledged: 0, skipped: 0, events: 0 }
  let waiting = 0
  let lastMs = 0
  let nextMs = now()
  let timer: NodeJS.Timeout | undefined
  let closing: Promise<void> | null = null

  function publish(topic: string, payload: string, onAcknowledged: () => void): void {
    waiting += 1
    client.publish(topic, payload, { qos: 1 }, (error) => {
      waiting -= 1
      if (error) log.debug({ topic, reason: messageOf(error) }, 'a publish was not acknowledged')
      else onAcknowledged()
    })
  }

  function publishEvents(events: readonly PlantEvent[]): void {
    for (const event of events) {
      figures.events += 1
      log.info({ task: event.task, state: event.state, equipment: event.equipment }, 'maintenance')
      publish(event.topic, eventPayload(event), () => undefined)
    }
  }

  function tick(): void {
    // A sensor's timestamps never repeat, also when the clock is set back.
    const atMs = Math.max(Math.floor(now()), lastMs + 1)
    lastMs = atMs
    if (waiting > MAX_WAITING) figures.skipped += plant.sensors.length
    else {
      const { readings, events } = plant.sample(atMs)
      for (const reading of readings) {
        figures.published += 1
        publish(reading.sensor.topic, readingPayload(reading), () => {
          figures.acknowledged += 1
        })
      }
      publishEvents(events)
    }
    // Samples that were missed, in a machine's sleep say, are not made up for.
    nextMs = Math.max(nextMs + periodMs, now())
    timer = setTimeout(tick, nextMs - now())
  }
  tick()

  async function end(): Promise<void> {
    clearTimeout(timer)
    publishEvents(plant.finish(Math.max(Math.floor(now()), lastMs + 1)))
    const deadlineMs = performance.now() + LAST_ACKNOWLEDGEMENTS_MS
    while (waiting > 0 && performance.now() < deadlineMs) await pause(POLL_MS)
    await client.endAsync(true)
  }

  return {
    figures: () => ({ ...figures }),
    close() {
      closing ??= end()
      return closing
    }
  }
}
