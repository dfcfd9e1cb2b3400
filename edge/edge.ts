// The edge, built and wired: buffer, uplink, intake, doors, health. Starting waits for no network.
//
// Closing runs in reverse: the doors stop taking, the intake waits for its commits, the uplink says goodbye, the buffer closes.
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { AppError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { pause } from '../shared/retry.ts'
import { createClosers } from '../shared/service.ts'
import { edgeStatus } from '../shared/status.ts'
import type { EdgeBuffer } from './buffer/buffer.ts'
import { openBuffer } from './buffer/buffer.ts'
import type { EdgeSettings } from './config.ts'
import { createDecoder } from './decode/decode.ts'
import { openBrokerDoor } from './doors/broker.ts'
import type { BrokerDoor } from './doors/broker.ts'
import { prepareFolder } from './folder.ts'
import { readGatewayIdentity } from './gateway-id.ts'
import type { GatewayIdentity } from './gateway-id.ts'
import { openHttp } from './http/server.ts'
import { createIntake } from './intake.ts'
import { createLatestValues } from './latest.ts'
import { createPackets } from './packets.ts'
import { openSources } from './sources.ts'
import type { Sources } from './sources.ts'
import { collectStatus, isUp } from './status.ts'
import type { LocalStatus } from './status.ts'
import { startUplink } from './uplink/uplink.ts'
import { startWatch } from './watch.ts'
import type { Watch } from './watch.ts'

export type Edge = {
  gateway: string
  /** Null: no embedded broker. */
  brokerPort: number | null
  httpPort: number
  status(): Promise<LocalStatus>
  /** Commits and acknowledges what was taken, and ends; twice is once. */
  close(): Promise<void>
}

/** How long closing waits for commits: with a full buffer they would wait for room. */
const LAST_COMMITS_MS = 3_000

/**
 * @throws AppError `port_in_use`, `folder_unwritable`, `buffer_in_use`, `buffer_foreign`, `config_invalid`; what was opened is closed again.
 */
export async function startEdge(
  settings: EdgeSettings,
  options: {
    log: Log
    /** The buffer failed: nothing is acknowledged any more, the process must end. */
    onFatal: (error: AppError) => void
    /** Wall clock, ms. */
    now?: () => number
  }
): Promise<Edge> {
  const { log } = options
  const now = options.now ?? Date.now
  const clockMs = () => performance.now()
  const startedAtMs = now()
  const closers = createClosers(log)

  async function build(): Promise<Edge> {
    const folder = resolve(settings.dataFolder)
    await prepareFolder(folder)
    const identity = readGatewayIdentity(folder, settings.gatewayId)
    const { gateway } = identity
    const path = join(folder, 'buffer.db')
    const isFresh = !existsSync(path)

    const buffer = await openBuffer({
      path,
      gateway,
      ...settings.buffer,
      log: log.child({ part: 'buffer' }),
      onFatal: options.onFatal
    })
    closers.add('buffer', () => buffer.close())
    await settleIdentity(identity, isFresh ? null : buffer, log)

    const latest = createLatestValues()
    let broker: BrokerDoor | null = null
    let sources: Sources | null = null
    let watch: Watch | null = null

    const uplink = startUplink({
      url: settings.uplinkUrl,
      gateway,
      buffer,
      latest,
      status: async () => edgeStatus.parse(await status()),
      now,
      clockMs,
      log: log.child({ part: 'uplink' })
    })
    closers.add('uplink', () => uplink.close())

    const intake = createIntake({
      decode: createDecoder({ sensorPrefix: settings.sensorPrefix }),
      buffer,
      latest,
      commitWindowMs: settings.commitWindowMs,
      now,
      newId: randomUUID,
      log: log.child({ part: 'intake' })
    })
    closers.add('intake', () => Promise.race([intake.close(), pause(LAST_COMMITS_MS)]))

    const watching = await startWatch({
      buffer,
      isUplinkUp: () => isUp(uplink.figures().state),
      onTick: () => sources?.settle(),
      now,
      clockMs
    })
    watch = watching
    closers.add('watch', () => watching.close())

    const packets = createPackets(buffer)
    if (settings.broker !== null) {
      warnWhenOpen(settings.broker.host, log)
      const opened = await openBrokerDoor({ ...settings.broker, intake, packets, log: log.child({ part: 'broker' }) })
      broker = opened
      closers.add('broker', () => opened.close())
    }
    const subscribed = openSources({
      ...settings.sources,
      gateway,
      folder,
      intake,
      packets,
      log: log.child({ part: 'source' })
    })
    sources = subscribed
    closers.add('sources', () => subscribed.close())

    async function status(): Promise<LocalStatus> {
      if (watch === null) throw new AppError('closed', 'the edge is still starting')
      return await collectStatus({
        gateway,
        dataFolder: folder,
        buffer,
        watch,
        intake,
        uplink,
        doors: () => [...(broker === null ? [] : [broker.state()]), ...(sources?.states() ?? [])],
        connections: () => broker?.figures() ?? null,
        startedAtMs,
        now
      })
    }

    const http = await openHttp({
      ...settings.http,
      status,
      isLive: watching.isAnswering,
      latest,
      log: log.child({ part: 'http' })
    })
    closers.add('http', () => http.close())

    const brokerPort = broker?.port ?? null
    log.info(
      { gateway, brokerPort, httpPort: http.port, dataFolder: folder, tookMs: Math.round(now() - startedAtMs) },
      'edge is ready'
    )
    return { gateway, brokerPort, httpPort: http.port, status, close: () => closers.closeAll() }
  }

  try {
    return await build()
  } catch (error) {
    await closers.closeAll()
    throw error
  }
}

/** Batches are sealed under the gateway's id: under a new one, what waits is sealed again. */
async function settleIdentity(identity: GatewayIdentity, used: EdgeBuffer | null, log: Log): Promise<void> {
  const { gateway, kept } = identity
  if (kept !== null && kept !== gateway) {
    log.warn(
      { gateway, before: kept },
      'the gateway has another id than before: the cloud sees a new gateway, and sensors stay with the old one'
    )
  }
  if (kept !== gateway && used !== null) await used.beginEpoch()
  identity.keep()
}

function warnWhenOpen(host: string, log: Log): void {
  if (host === 'localhost' || host === '::1' || host.startsWith('127.')) return
  log.warn({ host }, 'the embedded broker asks for no password: whoever reaches its port can publish')
}
