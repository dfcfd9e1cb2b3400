// `npm start`: the whole line on this machine, a simulated plant in front of it, and a screen that says what goes on.
//
// One demo per data folder. What is opened is closed in reverse on Ctrl-C: the plant stops, the edge sends what it has,
// edge and bridge close, the database shuts down; the next start goes on with the same data.
import { dirname, join, relative, resolve } from 'node:path'
import { z } from 'zod'
import { readConfig } from '../shared/config.ts'
import { AppError } from '../shared/errors.ts'
import { LOG_LEVELS } from '../shared/log.ts'
import { pause } from '../shared/retry.ts'
import { closeOnSignal, createClosers } from '../shared/service.ts'
import type { Closers } from '../shared/service.ts'
import { createAnnouncer, lookAt } from './figures.ts'
import { takeFolder } from './instance.ts'
import { makeFolder, readLineSettings, startLine } from './line.ts'
import type { Line } from './line.ts'
import { openLogs } from './logs.ts'
import type { Logs } from './logs.ts'
import { readOptions } from './options.ts'
import { createPlant } from './plant.ts'
import { startPublisher } from './plant/publisher.ts'
import type { Publisher } from './plant/publisher.ts'
import { createScreen, farewell, liveLine, welcome } from './screen.ts'
import type { Figures, Place } from './screen.ts'

const CHECKOUT = dirname(import.meta.dirname)
const USUAL_FOLDER = join(CHECKOUT, 'data', 'demo')
const USUAL_BROKER_PORT = 1_883

const HELP = `npm start -- [options]

Runs the whole line on this machine: a simulated plant, the edge, the bridge, and an embedded PostgreSQL.

  --no-plant    leave the simulated plant out
  --rate N      readings per second of each of the 20 sensors, 0.1 to 100 (1)
  --seed N      another plant: its readings, faults and work orders (1)
  --help        this

Variables: EDGE_BROKER_PORT (1883), EDGE_HTTP_PORT (8081), BRIDGE_BROKER_PORT (1884), BRIDGE_HTTP_PORT (8080), 0 for any
free one; DATABASE_URL: a PostgreSQL or TimescaleDB of yours in place of the embedded one; MILLRACE_DEMO_DIR: where the
data lies (data/demo); LOG_LEVEL (info); and what .env.example lists for edge and bridge.`

const OPTIONS = {
  command: 'npm start',
  numbers: {
    rate: { default: 1, min: 0.1, max: 100, whole: false },
    seed: { default: 1, min: 0, max: 2 ** 32 - 1, whole: true }
  },
  flags: ['no-plant']
} as const

const demoConfig = z.object({
  MILLRACE_DEMO_DIR: z.string().default(USUAL_FOLDER),
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info')
})

const REFRESH_MS = 1_000
const FIRST_ROW_POLL_MS = 50
/** A problem is told once it has lasted this long: at the start, and after a fault, some pass by themselves. */
const PROBLEM_LASTS_MS = 5_000
/** How long a stop waits for the edge's buffer to drain. */
const DRAIN_MS = 2_000
const DRAIN_POLL_MS = 50

const { stdout, stderr, env } = process
// A terminal that was closed is no reason to end without order.
for (const stream of [stdout, stderr]) stream.on('error', () => undefined)
const screen = createScreen({
  output: {
    write: (text) => stdout.write(text),
    isTerminal: stdout.isTTY === true && env['TERM'] !== 'dumb',
    // Asked each time: this process isn't told when the window changes.
    columns: () => stdout.getWindowSize()[0]
  },
  clockMs: () => performance.now()
})

/** The sums, said when all is closed. */
let lastWords: string | null = null

try {
  await main()
} catch (error) {
  complain(error)
  process.exit(1)
}

/** One line for what can be foreseen, all there is for a defect. */
function complain(error: unknown): void {
  if (error instanceof AppError)
    stderr.write(`millrace: ${error.message}${error.hint === null ? '' : `; ${error.hint}`}\n`)
  else stderr.write(`millrace: ${error instanceof Error ? error.stack : String(error)}\n`)
}

/** A path as it is typed in the checkout. */
function shown(path: string): string {
  const inside = relative(CHECKOUT, path)
  return inside.startsWith('..') ? path : inside
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2), env, OPTIONS)
  if (options.has('help')) {
    stdout.write(`${HELP}\n`)
    return
  }
  const config = readConfig(demoConfig, env)
  const folder = resolve(config.MILLRACE_DEMO_DIR)
  const settings = readLineSettings(env, folder)
  makeFolder(folder)
  const taken = takeFolder(join(folder, 'pid'))
  const logFolder = join(folder, 'logs')
  const logs = openLogs({ folder: logFolder, level: config.LOG_LEVEL })
  const log = logs.open('demo')
  const closers = createClosers(log)
  const stopping = new AbortController()
  closers.add('folder', () => taken.release())
  closers.add('logs', () => logs.close())
  closers.add('last words', () => {
    if (stopping.signal.aborted) screen.say(lastWords ?? 'Stopped.')
  })
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stopping.abort())
  closeOnSignal(closers, log)
  process.once('exit', (status) => {
    if (status === 0 || !stopping.signal.aborted) return
    stderr.write(
      `millrace: ended without closing all in order (see ${shown(logFolder)}); what was acknowledged is kept\n`
    )
  })

  /** The way out of a start that failed and of a service that can't go on. */
  async function fail(error: unknown): Promise<void> {
    // What breaks because all is being closed is no failure.
    if (stopping.signal.aborted) return
    screen.endLive()
    complain(error)
    log.fatal({ err: error }, 'the demo ends')
    await closers.closeAll()
    process.exit(1)
  }

  try {
    const line = await startLine(settings, {
      env,
      folder,
      logs,
      log,
      closers,
      stopped: stopping.signal,
      onStep: (step) => screen.live(`starting ${step} …`),
      onNote: (note) => screen.say(note),
      onFatal: (error) => void fail(error)
    })
    stopping.signal.throwIfAborted()
    screen.endLive()
    const rate = { rateHz: options.number('rate'), seed: options.number('seed') }
    const plant = options.has('no-plant') ? null : createPlant(rate)
    screen.say(welcome(placesOf(line, plant === null ? null : { sensors: plant.sensors.length, ...rate }, folder)))
    const publisher =
      plant === null
        ? null
        : startPublisher({
            url: line.edgeBroker.url,
            plant,
            rateHz: rate.rateHz,
            now: Date.now,
            log: logs.open('plant')
          })
    watchLine({ line, publisher, logs, logFolder: shown(logFolder), closers })
  } catch (error) {
    await fail(error)
  }
}

function placesOf(line: Line, plant: Place['plant'], folder: string): Place {
  const isUsual = folder === USUAL_FOLDER
  return {
    plant,
    edge: { broker: line.edgeBroker, page: line.edgePage },
    bridge: { broker: line.bridgeBroker, page: line.bridgePage },
    database: line.database,
    folder: shown(folder),
    logs: shown(join(folder, 'logs')),
    rowsVariables: isUsual ? '' : `DATABASE_URL_FILE=${join(folder, 'database-url')} `,
    seedVariables: [
      ...(line.edgeBroker.port === USUAL_BROKER_PORT ? [] : [`EDGE_BROKER_PORT=${line.edgeBroker.port} `]),
      ...(isUsual ? [] : [`MILLRACE_DEMO_DIR=${folder} `])
    ].join('')
  }
}

/** Tells of the first row and keeps the live line; when all closes, waits for the last rows and says the sums. */
function watchLine(options: {
  line: Line
  publisher: Publisher | null
  logs: Logs
  logFolder: string
  closers: Closers
}): void {
  const { line, publisher, logs, logFolder, closers } = options
  const announcer = createAnnouncer({ lastsMs: PROBLEM_LASTS_MS, clockMs: () => performance.now() })
  const stopped = new AbortController()
  const sinceStartS = () => performance.now() / 1_000

  async function tellFirstRow(): Promise<void> {
    const before = line.rowsAtStart
    while (!stopped.signal.aborted) {
      if (((await line.rows.count()) ?? 0) > before) {
        const row = await line.rows.newest()
        const text =
          row === null ? '' : `: ${row.sensor} = ${row.value ?? 'no value'}${row.unit === null ? '' : ` ${row.unit}`}`
        screen.say(`The first row is there, ${sinceStartS().toFixed(1)} s after the start${text}`)
        return
      }
      await pause(FIRST_ROW_POLL_MS, stopped.signal)
    }
  }

  async function keepLiveLine(): Promise<void> {
    while (!stopped.signal.aborted) {
      await pause(REFRESH_MS, stopped.signal)
      const figures = await lookAt(line, publisher, logs)
      if (stopped.signal.aborted) return
      const { lines, lasting } = announcer.note(figures.problems)
      for (const text of lines) screen.say(text)
      screen.live(...liveLine({ ...figures, problems: lasting }, logFolder))
    }
  }

  async function drain(): Promise<Figures> {
    const deadlineMs = performance.now() + DRAIN_MS
    for (;;) {
      const figures = await lookAt(line, publisher, logs)
      if (figures.waiting === 0 || performance.now() > deadlineMs) return figures
      await pause(DRAIN_POLL_MS)
    }
  }

  closers.add('sums', async () => {
    lastWords = farewell(await drain(), sinceStartS())
  })
  if (publisher !== null) closers.add('plant', () => publisher.close())
  closers.add('live line', () => {
    stopped.abort()
    screen.endLive()
    screen.say('Stopping: sending what the edge still has, then closing all …')
  })
  void tellFirstRow()
  void keepLiveLine()
}
