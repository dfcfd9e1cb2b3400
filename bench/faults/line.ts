// The line under test: oracle → edge → bridge → database, each a process, and its judgement at the end.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import type { OracleOptions } from '../oracle/publisher.ts'
import { messageOf } from '../../shared/errors.ts'
import { seedOf } from '../oracle/random.ts'
import { makeFolder, withConnection } from './bed.ts'
import type { Checks } from './checks.ts'
import { checkLedger, checkSums } from './ledger.ts'
import { startOracle } from './oracle.ts'
import type { Oracle } from './oracle.ts'
import { createBridge, createEdge } from './services.ts'
import type { Bridge, Edge, EdgeHealth } from './services.ts'
import { until } from './until.ts'
import { judge } from './verdict.ts'
import type { Verdict } from './verdict.ts'

export type Line = {
  folder: string
  databaseUrl: string
  edge: Edge
  bridge: Bridge
  oracle(): Oracle
  /** A further oracle, on another edge's port if given. */
  startOracle(options?: Partial<OracleOptions>): Oracle
  /** @throws Error when edge or bridge ended by itself. */
  demandRunning(): void
  /** The bridge, and what `startEdge` does. */
  start(): Promise<void>
  /** Edge and oracle, and waits for the first acceptance. */
  startEdge(): Promise<void>
  /** Ends the oracles, drains, stops all and judges. Epochs of which other edges wrote a part, or all. */
  finish(epochs?: { shared: ReadonlySet<string>; foreign: ReadonlySet<string> }): Promise<Verdict>
  /** Stops edge and bridge in order and looks at the buffer. */
  stop(): Promise<void>
  /** Kills whatever runs. */
  close(): Promise<void>
}

export const GATEWAY = 'press-hall'

/** Messages a second and client: a load that two cores carry beside the kills. */
const LOAD: Pick<OracleOptions, 'clients' | 'ratePerS' | 'eventsPerS' | 'maxInFlight'> = {
  clients: { qos1: 4, qos2: 2, events1: 1, events2: 1 },
  ratePerS: 150,
  eventsPerS: 15,
  maxInFlight: 50
}

const DRAIN_MS = 90_000

export async function openLine(options: {
  folder: string
  databaseUrl: string
  seed: number
  checks: Checks
  /** The broker between edge and bridge; null: the bridge's own. */
  brokerUrl?: string | null
  /** What the bridge takes for its database, where it isn't `databaseUrl` itself. */
  bridgeDatabaseUrl?: string
  /** Where the edge sends its batches, where it isn't the broker; asked at each start. */
  uplinkUrl?: () => string
  edge?: { file?: string; env?: Record<string, string> }
  bridge?: { env?: Record<string, string> }
  load?: Partial<OracleOptions>
}): Promise<Line> {
  const { checks, databaseUrl } = options
  const folder = makeFolder(options.folder)
  const brokerUrl = options.brokerUrl ?? null
  const bridge = await createBridge({
    folder,
    databaseUrl: options.bridgeDatabaseUrl ?? databaseUrl,
    brokerUrl,
    ...options.bridge
  })
  const uplinkUrl = options.uplinkUrl ?? (() => brokerUrl ?? `mqtt://127.0.0.1:${bridge.brokerPort}`)
  const edge = await createEdge({ folder, gateway: GATEWAY, uplinkUrl, ...options.edge })
  const oracles: Oracle[] = []

  function oracle(): Oracle {
    const [first] = oracles
    if (first === undefined) throw new Error('the oracle was not started')
    return first
  }

  function launch(more: Partial<OracleOptions> = {}): Oracle {
    const number = oracles.length + 1
    const started = startOracle(
      {
        host: '127.0.0.1',
        port: edge.brokerPort,
        seed: seedOf(options.seed, `oracle ${number}`),
        name: `o${number}`,
        journal: join(folder, `oracle-${number}.journal`),
        ...LOAD,
        ...options.load,
        ...more
      },
      join(folder, `oracle-${number}.log`)
    )
    oracles.push(started)
    return started
  }

  async function startEdge(): Promise<void> {
    const startMs = Date.now()
    edge.start()
    await launch().firstAfter(startMs)
  }

  async function stop(): Promise<void> {
    for (const part of [edge, bridge]) {
      await part.stop().catch((error: Error) => checks.add('I9', error.message))
    }
    checks.addAll('I9', bufferProblems(join(edge.dataFolder, 'buffer.db')))
  }

  function judgeAll(isOwn?: (epoch: string) => boolean): Promise<Verdict> {
    return withConnection(databaseUrl, async (db) => {
      await checkLedger(db, checks, isOwn)
      return judge(
        db,
        oracles.map(({ journal }) => journal),
        checks
      )
    })
  }

  return {
    folder,
    databaseUrl,
    edge,
    bridge,
    oracle,
    startOracle: launch,
    demandRunning() {
      edge.demandRunning()
      bridge.demandRunning()
    },
    async start() {
      bridge.start()
      await bridge.untilReady()
      await startEdge()
    },
    startEdge,
    async finish({ shared, foreign } = { shared: new Set(), foreign: new Set() }) {
      for (const one of oracles) await one.finish()
      const { sums, balanced } = await drained(edge, bridge)
      if (!balanced) checks.add('I5', 'the edge says that its sums are not balanced')
      await withConnection(databaseUrl, (db) =>
        checkSums(db, sums, checks, (epoch) => !shared.has(epoch) && !foreign.has(epoch))
      )
      await stop()
      return judgeAll((epoch) => !shared.has(epoch))
    },
    stop,
    async close() {
      await Promise.all([edge.kill(), bridge.kill(), ...oracles.map((one) => one.kill())])
    }
  }
}

/** Waits until the cloud has acknowledged all that the edge accepted; what the edge then says of itself. */
export async function drained(edge: Edge, bridge: Bridge): Promise<EdgeHealth> {
  let last: EdgeHealth | null = null
  try {
    return await until('the edge to be drained', DRAIN_MS, async () => {
      edge.demandRunning()
      bridge.demandRunning()
      last = await edge.health().catch(() => null)
      return last?.backlog?.records === 0 ? last : null
    })
  } catch (error) {
    throw new Error(`the line didn't drain: ${messageOf(error)}\nThe edge said last: ${JSON.stringify(last)}`)
  }
}

/** Opened as the edge does, so that a WAL that was left counts too. */
export function bufferProblems(path: string): string[] {
  try {
    const db = new Database(path, { fileMustExist: true })
    try {
      const found = db.pragma('integrity_check', { simple: true })
      return found === 'ok' ? [] : [`integrity_check of ${path}: ${String(found)}`]
    } finally {
      db.close()
    }
  } catch (error) {
    return [`${path} can't be opened: ${String(error)}`]
  }
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
}
