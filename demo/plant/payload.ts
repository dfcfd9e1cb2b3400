// The plant's messages as they go over MQTT: JSON in the form that the edge reads without any configuration.
import type { PlantReading } from '../plant.ts'
import type { PlantEvent } from './maintenance.ts'

/** `timestamp`: when it was measured in another form than the reading's own milliseconds, e.g. µs. */
export function readingPayload({ sensor, timestampMs, value, quality }: PlantReading, timestamp?: number): string {
  return JSON.stringify({
    value,
    unit: sensor.unit,
    sensor_type: sensor.quantity,
    quality,
    timestamp: timestamp ?? new Date(timestampMs).toISOString()
  })
}

export function eventPayload({ eventId, timestampMs, topic: _, ...event }: PlantEvent): string {
  return JSON.stringify({ event_id: eventId, ...event, timestamp: new Date(timestampMs).toISOString() })
}
