// The cloud side's environment variables.
import { z } from 'zod'
import { port, readConfig, wholeNumber } from '../shared/config.ts'
import type { Environment } from '../shared/config.ts'
import { AppError } from '../shared/errors.ts'
import { LOG_LEVELS } from '../shared/log.ts'
import type { LogLevel } from '../shared/log.ts'
import { parseAddress } from '../shared/mqtt/address.ts'
import { parseDatabaseUrl } from './database-url.ts'

/** The longest interval that makes sense, 100 years. */
const MAX_DAYS = 36_500

/** A text that `read` understands; its complaint is the problem shown. */
function readableBy(read: (text: string) => unknown) {
  return z.string().superRefine((text, context) => {
    try {
      read(text)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      const hint = error.hint === null ? '' : `; ${error.hint}`
      context.addIssue({ code: 'custom', message: `${error.message.replace(/^DATABASE_URL /, '')}${hint}` })
    }
  })
}

const host = z.string().regex(/^[\w.:%-]+$/, 'must be a host name or an address to listen on, such as 127.0.0.1')

const databaseUrl = readableBy(parseDatabaseUrl)

const days = wholeNumber.refine((value) => value <= MAX_DAYS, `must be at most ${MAX_DAYS} days`)

/** `npm run migrate`. */
export const migrateConfig = z.object({
  /** PostgreSQL's address with the login of the tables' owner. */
  DATABASE_URL: z.string(),
  /** `auto`: TimescaleDB where the server has it; `plain`: never. */
  DATABASE_ENGINE: z.enum(['auto', 'plain']).default('auto'),
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  /** Readings older than this are dropped; 0: never. */
  RETENTION_DAYS: days.default(180),
  /** Chunks older than this are compressed; 0: never. */
  COMPRESS_AFTER_DAYS: days.default(7)
})

/** `npm run bridge`. */
export const bridgeConfig = z.object({
  /** The cloud's broker, `mqtt://…` or `mqtts://…`; absent: an embedded one. */
  BRIDGE_BROKER_URL: readableBy(parseAddress).optional(),
  /** Where the embedded broker listens. */
  BRIDGE_BROKER_HOST: host.default('127.0.0.1'),
  BRIDGE_BROKER_PORT: port.default(1884),
  /** API, health and page. */
  BRIDGE_HTTP_HOST: host.default('127.0.0.1'),
  BRIDGE_HTTP_PORT: port.default(8080),
  DATABASE_URL: databaseUrl,
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  /** A rotating file beside standard output. */
  LOG_FILE: z.string().optional(),
  /** Older readings are dead letters; 0: none is. */
  RETENTION_DAYS: days.default(180),
  /** What `npm run migrate` sets; shown beside what is set. */
  COMPRESS_AFTER_DAYS: days.default(7)
})

export type BridgeSettings = {
  /** Null: an embedded broker on `broker`. */
  brokerUrl: string | null
  broker: { host: string; port: number }
  http: { host: string; port: number }
  databaseUrl: string
  retentionDays: number
  compressAfterDays: number
}

/** @throws AppError `config_invalid` with one line for each problem. */
export function readBridgeSettings(
  env: Environment
): BridgeSettings & { log: { level: LogLevel; file: string | null } } {
  const config = readConfig(bridgeConfig, env)
  return {
    brokerUrl: config.BRIDGE_BROKER_URL ?? null,
    broker: { host: config.BRIDGE_BROKER_HOST, port: config.BRIDGE_BROKER_PORT },
    http: { host: config.BRIDGE_HTTP_HOST, port: config.BRIDGE_HTTP_PORT },
    databaseUrl: config.DATABASE_URL,
    retentionDays: config.RETENTION_DAYS,
    compressAfterDays: config.COMPRESS_AFTER_DAYS,
    log: { level: config.LOG_LEVEL, file: config.LOG_FILE ?? null }
  }
}

/** `npm run rows` and `npm run tasks`. */
export const queryConfig = z.object({
  /** Absent: the database of the demo that runs here. */
  DATABASE_URL: databaseUrl.optional()
})

/** Where a running demo writes the URL of its database. */
const DEMO_DATABASE_URL_FILE = './data/demo/database-url'

/** @throws AppError `config_invalid` */
export function readQuerySource(env: Environment): { databaseUrl: string | null; demoUrlFile: string } {
  return { databaseUrl: readConfig(queryConfig, env).DATABASE_URL ?? null, demoUrlFile: DEMO_DATABASE_URL_FILE }
}
