// The bridge as a whole: what is opened in which order, and when ingest may begin.
//
//   http → broker → gateways' statuses → database looked at → (reached, schema current) writer → receiver
//
// Health answers from the first moment, whatever is missing. Ingest begins by itself once the database is there and
// `npm run migrate` has run, and goes on by itself after any outage.
import { randomBytes } from 'node:crypto'
import { messageOf } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { parseAddress } from '../shared/mqtt/address.ts'
import { createClosers } from '../shared/service.ts'
import { openBroker, OWN_CLIENT_PREFIX } from './broker.ts'
import type { EmbeddedBroker } from './broker.ts'
import type { BridgeSettings } from './config.ts'
import { openDatabase } from './database.ts'
import type { Engine } from './database.ts'
import { openHttp } from './http/server.ts'
import { startReceiver } from './ingest/receive.ts'
import type { Receiver } from './ingest/receive.ts'
import { createWriter } from './ingest/write.ts'
import type { Writer } from './ingest/write.ts'
import { createReporter } from './status.ts'
import type { BridgeReport } from './status.ts'
import { watchDatabase } from './status/database-watch.ts'
import { watchGateways } from './status/gateways.ts'

export type Bridge = {
  httpPort: number
  /** Of the embedded broker; null where there is none. */
  brokerPort: number | null
  report(): BridgeReport
  close(): Promise<void>
}

/** Two lanes, each with one transaction under way, and one to spare. */
const DATABASE_CONNECTIONS = 3
const OWN_RETRY = { baseMs: 100, capMs: 2_000 }

/**
 * Resolves once health answers and the embedded broker listens; the database may come later.
 * `onFatal` is called when the bridge can't go on and a new start may help.
 * @throws AppError `port_in_use`, `config_invalid`
 */
export async function startBridge(
  settings: BridgeSettings,
  options: { log: Log; onFatal: (error: unknown) => void; now?: () => number; lookEveryMs?: number }
): Promise<Bridge> {
  const { log } = options
  const now = options.now ?? Date.now
  const closers = createClosers(log)
  try {
    return await open()
  } catch (error) {
    await closers.closeAll()
    throw error
  }

  async function open(): Promise<Bridge> {
    let ingest: { writer: Writer; receiver: Receiver } | null = null
    let closed = false
    const identity = randomBytes(6).toString('hex')

    const database = openDatabase({
      url: settings.databaseUrl,
      max: DATABASE_CONNECTIONS,
      log: log.child({ part: 'database' }),
      applicationName: 'millrace-bridge'
    })
    closers.add('database', database.close)

    const broker = settings.brokerUrl === null ? await openEmbedded() : null
    const brokerUrl = broker?.url ?? settings.brokerUrl ?? ''
    const retry = broker === null ? {} : { retry: OWN_RETRY }

    const gateways = watchGateways({
      url: brokerUrl,
      clientId: `${OWN_CLIENT_PREFIX}-status-${identity}`,
      now,
      log: log.child({ part: 'gateways' }),
      ...retry
    })
    closers.add('gateways', gateways.close)

    const reporter = createReporter({
      brokerKind: broker === null ? 'external' : 'embedded',
      brokerAddress: parseAddress(brokerUrl).shown,
      brokerFigures: () => broker?.figures() ?? null,
      database: { state: () => watch.state() },
      gateways,
      ingest: () => ingest,
      startedAtMs: now(),
      now
    })

    const watch = watchDatabase({
      url: settings.databaseUrl,
      ...(options.lookEveryMs === undefined ? {} : { everyMs: options.lookEveryMs }),
      beforeLook: () => reporter.beforeLook(),
      afterLook(found) {
        reporter.afterLook()
        if (found?.schema.state === 'current' && ingest === null && !closed) startIngest(found.engine)
      },
      log: log.child({ part: 'status' })
    })
    closers.add('database watch', watch.close)

    const http = await openHttp({
      ...settings.http,
      report: reporter.report,
      policies: { retentionDays: settings.retentionDays, compressAfterDays: settings.compressAfterDays },
      log: log.child({ part: 'http' })
    })
    closers.add('http', http.close)

    /** The kind of engine decides how rows are stored; it stays once the tables are made. */
    function startIngest(engine: Engine): void {
      try {
        const writer = createWriter({
          database,
          engine,
          retentionDays: settings.retentionDays,
          now,
          log: log.child({ part: 'writer' })
        })
        closers.add('writer', writer.close)
        const receiver = startReceiver({
          url: brokerUrl,
          clientId: `${OWN_CLIENT_PREFIX}-${identity}`,
          writer,
          shared: broker === null,
          log: log.child({ part: 'receiver' }),
          ...retry
        })
        closers.add('receiver', receiver.close)
        ingest = { writer, receiver }
        log.info({ engine: engine.kind }, 'ingest begins')
      } catch (error) {
        log.fatal({ err: error, reason: messageOf(error) }, 'ingest can’t begin')
        options.onFatal(error)
      }
    }

    return {
      httpPort: http.port,
      brokerPort: broker?.port ?? null,
      report: reporter.report,
      close() {
        closed = true
        return closers.closeAll()
      }
    }
  }

  async function openEmbedded(): Promise<EmbeddedBroker> {
    const broker = await openBroker({ ...settings.broker, log: log.child({ part: 'broker' }) })
    closers.add('broker', broker.close)
    return broker
  }
}
