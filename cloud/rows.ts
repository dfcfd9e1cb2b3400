// `npm run rows -- --sensor X`: the newest readings in the database.
import { parseArgs } from 'node:util'
import { readQuerySource } from './config.ts'
import { limitOf, look, runCommand } from './query.ts'
import { newestReadings } from './readings.ts'
import type { ShownReading } from './readings.ts'
import { formatTable } from './table.ts'
import type { Column } from './table.ts'

const USAGE = "usage: npm run rows -- [--sensor 'plant/line-1/*']… [--limit 20] [--json]"

const COLUMNS: Column<ShownReading>[] = [
  { title: 'timestamp (UTC)', of: (row) => row.timestamp },
  { title: 'sensor', of: (row) => row.sensor_id },
  { title: 'value', of: valueText, right: true },
  { title: 'unit', of: (row) => row.unit ?? '' },
  { title: 'quality', of: (row) => String(row.quality), right: true },
  { title: 'received (UTC)', of: (row) => row.received_at }
]

function valueText({ value, value_text: text }: ShownReading): string {
  return text === null ? String(value ?? '–') : JSON.stringify(text)
}

await runCommand('rows', USAGE, async () => {
  const { values } = parseArgs({
    options: {
      sensor: { type: 'string', multiple: true, default: [] },
      limit: { type: 'string', default: '20' },
      json: { type: 'boolean', default: false }
    }
  })
  const limit = limitOf(values.limit)
  const rows = await look(readQuerySource(process.env), (client) =>
    newestReadings(client, { sensors: values.sensor, limit })
  )
  if (values.json) return `${JSON.stringify(rows, null, 2)}\n`
  if (rows.length > 0) return formatTable(COLUMNS, rows)
  return values.sensor.length === 0 ? 'no readings yet\n' : `no readings of ${values.sensor.join(', ')}\n`
})
