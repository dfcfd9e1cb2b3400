// The whole line in one process: database, migrations, bridge, edge, opened in this order and closed in reverse.
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { startBridge } from '../cloud/bridge.ts'
import type { Bridge } from '../cloud/bridge.ts'
import { migrateConfig, readBridgeSettings } from '../cloud/config.ts'
import type { BridgeSettings } from '../cloud/config.ts'
import { redactUrl } from '../cloud/database.ts'
import type { Engine } from '../cloud/database.ts'
import { readEdgeSettings } from '../edge/config.ts'
import type { EdgeSettings } from '../edge/config.ts'
import { startEdge } from '../edge/edge.ts'
import type { Edge } from '../edge/edge.ts'
import { readConfig } from '../shared/config.ts'
import type { Environment } from '../shared/config.ts'
import { AppError, messageOf } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import type { Closers } from '../shared/service.ts'
import { leaveUrl, migrateDatabase, openRowCounter, startServer } from './database.ts'
import type { RowCounter } from './database.ts'
import type { Logs } from './logs.ts'
import { checkPorts } from './ports.ts'

export type LineSettings = {
  edge: EdgeSettings & { broker: { host: string; port: number } }
  bridge: BridgeSettings
  /** The database given; null: an embedded one. */
  databaseUrl: string | null
}

export type Line = {
  edge: Edge
  edgeBroker: { host: string; port: number; url: string }
  edgePage: string
  bridge: Bridge
  bridgeBroker: string
  bridgePage: string
  /** For a person, without the password. */
  database: string
  rows: RowCounter
  /** Readings that were there before the line ran. */
  rowsAtStart: number
}

/** Where the bridge's settings want a database and there is none yet. */
const NO_DATABASE_YET = 'postgresql://127.0.0.1/millrace'
/** Known to the database as the owner of its sensors, so the same after data/demo was deleted. */
const GATEWAY = 'demo'
/** Who tries the line out waits for a row: a plant this small is sent at the latest after ten times this. ms */
const LINGER_MS = '50'

/** @throws AppError `config_invalid` */
export function readLineSettings(env: Environment, folder: string): LineSettings {
  const { broker, ...edge } = readEdgeSettings({
    EDGE_GATEWAY_ID: GATEWAY,
    EDGE_LINGER_MS: LINGER_MS,
    ...env,
    EDGE_DATA_DIR: join(folder, 'edge'),
    EDGE_UPLINK_URL: undefined
  })
  if (broker === null) {
    throw new AppError('config_invalid', 'EDGE_BROKER is off, and the demo publishes to the edge’s own broker', {
      hint: 'unset EDGE_BROKER, or start the parts one by one with npm run edge and npm run bridge'
    })
  }
  const given = readConfig(migrateConfig.pick({ DATABASE_URL: true }).partial(), env).DATABASE_URL ?? null
  const bridge = readBridgeSettings({
    ...env,
    BRIDGE_BROKER_URL: undefined,
    DATABASE_URL: given ?? NO_DATABASE_YET,
    DATABASE_URL_FILE: undefined
  })
  return { edge: { ...edge, broker }, bridge, databaseUrl: given }
}

/** @throws AppError `folder_unwritable` */
export function makeFolder(folder: string): void {
  try {
    // The account that the database server runs as when we are root passes through.
    if (mkdirSync(folder, { recursive: true }) !== undefined) chmodSync(folder, 0o711)
  } catch (error) {
    throw new AppError('folder_unwritable', `can't make the folder ${folder}: ${messageOf(error)}`, {
      hint: 'correct the rights of the folder above it, or give another one in MILLRACE_DEMO_DIR'
    })
  }
}

/**
 * `onStep` is told what is done next; `onFatal` that the line can't go on.
 * @throws AppError `port_in_use`, `folder_unwritable`, `database_unreachable`, …; the reason of `stopped`
 */
export async function startLine(
  settings: LineSettings,
  options: {
    env: Environment
    folder: string
    logs: Logs
    log: Log
    closers: Closers
    /** Ends the start at its next step. */
    stopped: AbortSignal
    onStep: (step: string) => void
    onNote: (note: string) => void
    onFatal: (error: unknown) => void
  }
): Promise<Line> {
  const { env, folder, logs, log, closers, onStep } = options
  const { broker, http } = settings.edge
  await checkPorts([
    { variable: 'EDGE_BROKER_PORT', ...broker, what: 'the edge’s broker' },
    { variable: 'EDGE_HTTP_PORT', ...http, what: 'the edge’s page' },
    { variable: 'BRIDGE_BROKER_PORT', ...settings.bridge.broker, what: 'the bridge’s broker' },
    { variable: 'BRIDGE_HTTP_PORT', ...settings.bridge.http, what: 'the bridge’s page' }
  ])

  const wantedFolder = join(folder, 'postgres')
  let elsewhere = ''
  const url = settings.databaseUrl ?? (await openServer())
  async function openServer(): Promise<string> {
    onStep('the database (an embedded PostgreSQL)')
    const starting = startServer({
      folder: wantedFolder,
      log: logs.open('postgres'),
      onRestart: () => options.onNote('the database server died and was started again')
    })
    // Stopped while it starts, it is waited for: a server that is told to stop too early isn't stopped.
    closers.add('database server', () =>
      starting.then(
        (server) => server.stop(),
        () => undefined
      )
    )
    const server = await starting
    if (server.folder !== wantedFolder) elsewhere = `, files in ${server.folder}`
    return server.url
  }

  options.stopped.throwIfAborted()
  onStep('the tables')
  const migration = readConfig(migrateConfig, { ...env, DATABASE_URL: url, DATABASE_URL_FILE: undefined })
  const engine = await migrateDatabase(migration, log)
  const left = leaveUrl(join(folder, 'database-url'), url)
  closers.add('database url', () => left.remove())
  const rows = openRowCounter(url, log)
  closers.add('row counter', () => rows.close())
  const rowsAtStart = (await rows.count()) ?? 0

  options.stopped.throwIfAborted()
  onStep('the bridge')
  const bridge = await startBridge(
    { ...settings.bridge, databaseUrl: url },
    { log: logs.open('bridge'), onFatal: options.onFatal }
  )
  closers.add('bridge', () => bridge.close())

  options.stopped.throwIfAborted()
  onStep('the edge')
  const bridgeBroker = `mqtt://${reachable(settings.bridge.broker.host)}:${bridge.brokerPort ?? settings.bridge.broker.port}`
  const edge = await startEdge(
    { ...settings.edge, uplinkUrl: bridgeBroker },
    { log: logs.open('edge'), onFatal: options.onFatal }
  )
  closers.add('edge', () => edge.close())

  const brokerPort = edge.brokerPort ?? broker.port
  const brokerHost = reachable(broker.host)
  return {
    edge,
    edgeBroker: { host: brokerHost, port: brokerPort, url: `mqtt://${brokerHost}:${brokerPort}` },
    edgePage: `http://${reachable(http.host)}:${edge.httpPort}/`,
    bridge,
    bridgeBroker,
    bridgePage: `http://${reachable(settings.bridge.http.host)}:${bridge.httpPort}/`,
    database: `${engineName(engine)}, ${settings.databaseUrl === null ? 'embedded, ' : ''}${redactUrl(url)}${elsewhere}`,
    rows,
    rowsAtStart
  }
}

function engineName({ kind, serverVersion, timescaleVersion }: Engine): string {
  const extension = kind === 'plain' || timescaleVersion === null ? '' : ` with TimescaleDB ${timescaleVersion}`
  return `PostgreSQL ${serverVersion}${extension}`
}

/** The address under which this machine reaches what listens on `host`. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return host.includes(':') ? `[${host}]` : host
}
