// The newest readings, as people look at them.
import { z } from 'zod'
import type { SqlClient } from './database.ts'

const reading = z.object({
  /** UTC, to the microsecond. */
  timestamp: z.string(),
  sensor_id: z.string(),
  value: z.number().nullable(),
  value_text: z.string().nullable(),
  quality: z.number(),
  unit: z.string().nullable(),
  received_at: z.string()
})
export type ShownReading = z.infer<typeof reading>

/** `sensors`: ids, in which `*` stands for any characters; none: all sensors. Newest first. */
export async function newestReadings(
  client: SqlClient,
  options: { sensors: readonly string[]; limit: number }
): Promise<ShownReading[]> {
  const patterns = options.sensors.map(patternOf)
  const { rows } = await client.query(
    `
      SELECT
        to_char(readings.timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS timestamp,
        readings.sensor_id,
        readings.value,
        readings.value_text,
        readings.quality,
        sensors.unit,
        to_char(readings.received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS received_at
      FROM (
        SELECT *
        FROM sensor_readings
        WHERE cardinality($1::text[]) = 0 OR sensor_id LIKE ANY ($1::text[])
        ORDER BY timestamp DESC, sensor_id DESC
        LIMIT $2
      ) AS readings
      LEFT JOIN sensors ON sensors.sensor_id = readings.sensor_id
      ORDER BY readings.timestamp DESC, readings.sensor_id DESC
    `,
    [patterns, options.limit]
  )
  return z.array(reading).parse(rows)
}

function patternOf(sensor: string): string {
  return sensor.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%')
}
