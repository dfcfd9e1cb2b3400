// Edge and bridge as processes that can be started again on the same ports and folders.
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { freePort } from '../../demo/free-port.ts'
import { edgeStatus } from '../../shared/status.ts'
import type { EdgeStatus } from '../../shared/status.ts'
import { startProgram } from './program.ts'
import type { Program } from './program.ts'
import { until } from './until.ts'

export type Service = {
  logFile: string
  httpPort: number
  brokerPort: number
  /** Doesn't wait; `extra`: more environment for this start. */
  start(extra?: Record<string, string>): void
  /** @throws Error when it ended by itself. */
  demandRunning(): void
  isRunning(): boolean
  kill(): Promise<void>
  stop(): Promise<void>
}

export type Edge = Service & {
  /** Where the next start finds its data. */
  dataFolder: string
  gateway: string
  health(): Promise<EdgeHealth>
  isReady(): Promise<boolean>
}

export type EdgeHealth = EdgeStatus & z.infer<typeof extraHealth>

const extraHealth = z.object({
  balanced: z.boolean(),
  health: z.string(),
  buffer: z.object({ damaged: z.int(), ignoredAcks: z.int(), setAside: z.string().nullable() }),
  uplink: z.object({ state: z.string(), held: z.string().nullable(), resends: z.int() })
})

const READY_MS = 30_000
const REQUEST_MS = 2_000

async function service(options: {
  name: string
  file: string
  folder: string
  env: (ports: { httpPort: number; brokerPort: number }) => Record<string, string>
}): Promise<Service> {
  const ports = { httpPort: await freePort(), brokerPort: await freePort() }
  const logFile = `${options.folder}/${options.name}.log`
  let program: Program | null = null
  const isRunning = () => program !== null && program.ended() === null
  return {
    ...ports,
    logFile,
    isRunning,
    start(extra) {
      if (isRunning()) throw new Error(`${options.name} runs already`)
      const env = { LOG_LEVEL: 'info', ...options.env(ports), ...extra }
      program = startProgram({ name: options.name, file: options.file, env, logFile })
    },
    demandRunning() {
      if (isRunning()) return
      throw new Error(`${options.name} ended by itself: ${JSON.stringify(program?.ended())}\n${lastLines(logFile)}`)
    },
    async kill() {
      await program?.kill()
      program = null
    },
    async stop() {
      const stopping = program
      program = null
      await stopping?.stop()
    }
  }
}

export async function createEdge(options: {
  folder: string
  name?: string
  gateway: string
  /** Asked at each start. */
  uplinkUrl: () => string
  /** The entry, where it isn't the product's. */
  file?: string
  env?: Record<string, string>
}): Promise<Edge> {
  const name = options.name ?? 'edge'
  const state = { dataFolder: `${options.folder}/${name}` }
  const base = await service({
    name,
    file: options.file ?? 'edge/main.ts',
    folder: options.folder,
    env: ({ httpPort, brokerPort }) => ({
      EDGE_GATEWAY_ID: options.gateway,
      EDGE_DATA_DIR: state.dataFolder,
      EDGE_BROKER_PORT: String(brokerPort),
      EDGE_HTTP_PORT: String(httpPort),
      EDGE_UPLINK_URL: options.uplinkUrl(),
      ...options.env
    })
  })
  return Object.assign(state, base, {
    gateway: options.gateway,
    async health() {
      const body = await (await request(base.httpPort, '/health')).json()
      return { ...edgeStatus.parse(body), ...extraHealth.parse(body) }
    },
    isReady: () => answersOk(base.httpPort, '/health/ready')
  })
}

export type Bridge = Service & { isReady(): Promise<boolean>; untilReady(): Promise<void> }

export async function createBridge(options: {
  folder: string
  name?: string
  databaseUrl: string
  /** Null: its embedded one. */
  brokerUrl: string | null
  env?: Record<string, string>
}): Promise<Bridge> {
  const name = options.name ?? 'bridge'
  const base = await service({
    name,
    file: 'cloud/main.ts',
    folder: options.folder,
    env: ({ httpPort, brokerPort }) => ({
      DATABASE_URL: options.databaseUrl,
      BRIDGE_BROKER_PORT: String(brokerPort),
      BRIDGE_HTTP_PORT: String(httpPort),
      ...(options.brokerUrl === null ? {} : { BRIDGE_BROKER_URL: options.brokerUrl }),
      ...options.env
    })
  })
  const isReady = () => answersOk(base.httpPort, '/health/ready')
  return {
    ...base,
    isReady,
    async untilReady() {
      await until(`${name} to be ready`, READY_MS, () => {
        base.demandRunning()
        return isReady()
      })
    }
  }
}

function request(port: number, path: string): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(REQUEST_MS) })
}

async function answersOk(port: number, path: string): Promise<boolean> {
  try {
    return (await request(port, path)).ok
  } catch {
    return false
  }
}

function lastLines(file: string): string {
  return readFileSync(file, 'utf8').split('\n').slice(-8).join('\n')
}
