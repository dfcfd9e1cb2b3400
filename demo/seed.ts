// `npm run seed`: many readings of the recent past through the real line, and the proof that all have become rows.
//
// Their timestamps carry a microsecond of their own, so that the rows of one run are told from those of any other.
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'
import { z } from 'zod'
import { queryConfig } from '../cloud/config.ts'
import { openDatabase } from '../cloud/database.ts'
import type { Database } from '../cloud/database.ts'
import { edgeConfig } from '../edge/config.ts'
import { readConfig } from '../shared/config.ts'
import { AppError, codeOf, messageOf } from '../shared/errors.ts'
import { silentLog } from '../shared/log.ts'
import { pause } from '../shared/retry.ts'
import { readOptions } from './options.ts'
import { createPlant } from './plant.ts'
import type { PlantReading } from './plant.ts'
import { readingPayload } from './plant/payload.ts'
import { count } from './screen.ts'

const HELP = `npm run seed -- [options]

Publishes readings of the recent past, one a second, to the edge that runs here, and waits until all are rows.

  --sensors N     how many sensors, 1 to 1000 (20)
  --readings N    how many readings of each, 1 to 100000 (1000)
  --help          this

Variables: EDGE_BROKER_HOST, EDGE_BROKER_PORT (127.0.0.1, 1883): where the edge is; DATABASE_URL: where the rows
appear (that of the running demo); MILLRACE_DEMO_DIR: where that demo has its data (data/demo).`

const OPTIONS = {
  command: 'npm run seed',
  numbers: {
    sensors: { default: 20, min: 1, max: 1_000, whole: true },
    readings: { default: 1_000, min: 1, max: 100_000, whole: true }
  },
  flags: []
} as const

const seedConfig = edgeConfig.pick({ EDGE_BROKER_HOST: true, EDGE_BROKER_PORT: true }).extend({
  DATABASE_URL: queryConfig.shape.DATABASE_URL,
  MILLRACE_DEMO_DIR: z.string().default(join(dirname(import.meta.dirname), 'data', 'demo'))
})

const START_IT = 'start it with npm start in another terminal, then try again'
const CONNECT_TIMEOUT_MS = 5_000
/** Publishes without an acknowledgement at a time. */
const IN_FLIGHT = 1_000
const POLL_MS = 100
/** Without a new row for this long the wait is given up. */
const STALLED_MS = 30_000
const SECOND_US = 1_000_000

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2), process.env, OPTIONS)
  if (options.has('help')) return say(HELP)
  const config = readConfig(seedConfig, process.env)
  const sensors = options.number('sensors')
  const readings = options.number('readings')
  const url = config.DATABASE_URL ?? demoDatabase(config.MILLRACE_DEMO_DIR)
  const broker = { host: config.EDGE_BROKER_HOST, port: config.EDGE_BROKER_PORT }

  const database = openDatabase({ url, max: 1, log: silentLog(), applicationName: 'millrace-seed' })
  try {
    const run = planRun(readings)
    await countRows(database, run)
    const client = await connectTo(broker)
    say(
      `publishing ${count(sensors * readings)} readings (${count(sensors)} sensors × ${count(readings)}) to mqtt://${broker.host}:${broker.port}`
    )
    const startedAtMs = performance.now()
    await publishAll(client, sensors, readings, run)
    say(`all are acknowledged after ${secondsSince(startedAtMs)} s: they are on the edge's disk`)
    await waitForRows(database, run, sensors * readings)
    const tookS = (performance.now() - startedAtMs) / 1_000
    say(
      `all ${count(sensors * readings)} are rows after ${tookS.toFixed(1)} s, ${count(Math.round((sensors * readings) / tookS))} a second`
    )
    say(`see some of them: npm run rows -- --sensor ${sensorsOf(1)[0]?.topics[0] ?? ''}`)
  } finally {
    await database.close()
  }
}

type Run = { firstUs: number; lastUs: number }

/** The microsecond within its second is the run's mark. */
function planRun(readings: number): Run {
  const lastUs = Date.now() * 1_000 - SECOND_US + Math.floor(Math.random() * 1_000)
  return { firstUs: lastUs - (readings - 1) * SECOND_US, lastUs }
}

/** @throws AppError `database_unreachable` when no demo runs. */
function demoDatabase(folder: string): string {
  try {
    return readFileSync(join(folder, 'database-url'), 'utf8').trim()
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw new AppError('database_unreachable', messageOf(error))
    throw new AppError('database_unreachable', 'the demo does not run here', { hint: START_IT })
  }
}

async function connectTo({ host, port }: { host: string; port: number }): Promise<MqttClient> {
  try {
    return await connectAsync(
      `mqtt://${host.includes(':') ? `[${host}]` : host}:${port}`,
      { clientId: `millrace-seed-${process.pid}`, protocolVersion: 4, connectTimeout: CONNECT_TIMEOUT_MS },
      false
    )
  } catch (error) {
    const reason = error instanceof AggregateError ? error.errors.map(messageOf).join('; ') : messageOf(error)
    throw new AppError('connection_refused', `no edge takes connections on ${host}:${port} (${reason})`, {
      hint: START_IT
    })
  }
}

/** As many plants of the demo as it takes, under topics of their own. */
function sensorsOf(amount: number) {
  const plants = []
  for (let left = amount, number = 1; left > 0; number += 1) {
    const plant = createPlant({ seed: number, prefix: `seed/plant-${number}` })
    const taken = Math.min(left, plant.sensors.length)
    plants.push({ plant, taken, topics: plant.sensors.slice(0, taken).map(({ topic }) => topic) })
    left -= taken
  }
  return plants
}

/** Resolves when the last one is acknowledged. */
async function publishAll(client: MqttClient, sensors: number, readings: number, run: Run): Promise<void> {
  const plants = sensorsOf(sensors)
  let inFlight = 0
  let lost: Error | null = null
  let wake: () => void = () => undefined
  const changed = () => new Promise<void>((resolve) => (wake = resolve))

  function publish(reading: PlantReading, timestampUs: number): void {
    inFlight += 1
    client.publish(reading.sensor.topic, readingPayload(reading, timestampUs), { qos: 1 }, (error) => {
      inFlight -= 1
      lost ??= error ?? null
      wake()
    })
  }
  client.on('close', () => {
    lost ??= new Error('the edge closed the connection')
    wake()
  })

  for (let n = 0; n < readings; n += 1) {
    const timestampUs = run.firstUs + n * SECOND_US
    for (const { plant, taken } of plants) {
      for (const reading of plant.sample(Math.floor(timestampUs / 1_000)).readings.slice(0, taken)) {
        while (inFlight >= IN_FLIGHT && lost === null) await changed()
        publish(reading, timestampUs)
      }
    }
    if (lost !== null) break
  }
  while (inFlight > 0 && lost === null) await changed()
  client.removeAllListeners('close')
  if (lost !== null) {
    client.end(true)
    throw new AppError('connection_lost', `the edge went away while readings were published: ${messageOf(lost)}`, {
      hint: 'see whether it runs, then seed again'
    })
  }
  await client.endAsync()
}

const countRow = z.object({ rows: z.coerce.number() })

/** Rows that bear the run's mark. @throws AppError `database_unreachable` with what to do. */
async function countRows(database: Database, run: Run): Promise<number> {
  const sql = `
    SELECT count(*) AS rows
    FROM sensor_readings
    WHERE timestamp BETWEEN to_timestamp($1::numeric / 1000000) AND to_timestamp($2::numeric / 1000000)
      AND (extract(epoch FROM timestamp) * 1000000)::bigint % 1000000 = $3
      AND sensor_id LIKE '%seed/plant-%'`
  try {
    const values = [run.firstUs - 1, run.lastUs + 1, run.firstUs % SECOND_US]
    const { rows } = await database.withClient((client) => client.query(sql, values))
    return countRow.parse(rows[0]).rows
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw new AppError('database_unreachable', error.message, {
      hint: `is the demo running? ${START_IT}`,
      cause: error
    })
  }
}

async function waitForRows(database: Database, run: Run, wanted: number): Promise<void> {
  let found = -1
  let changedAtMs = performance.now()
  for (;;) {
    const now = await countRows(database, run)
    if (now >= wanted) return
    if (now !== found) changedAtMs = performance.now()
    found = now
    if (performance.now() - changedAtMs > STALLED_MS) {
      throw new AppError(
        'not_found',
        `${count(found)} of ${count(wanted)} are rows, and no more for ${STALLED_MS / 1_000} s`,
        {
          hint: 'the others wait in the edge or are dead letters: see the pages of edge and bridge'
        }
      )
    }
    await pause(POLL_MS)
  }
}

function secondsSince(startedAtMs: number): string {
  return ((performance.now() - startedAtMs) / 1_000).toFixed(1)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

try {
  await main()
} catch (error) {
  if (!(error instanceof AppError)) throw error
  process.stderr.write(`seed: ${error.message}${error.hint === null ? '' : `; ${error.hint}`}\n`)
  process.exit(1)
}
