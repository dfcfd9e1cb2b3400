// The edge's environment variables, and the settings that they make. Each has a default that works: with nothing set the edge
// collects, and tries the uplink until it is there.
import { z } from 'zod'
import { byteSize, durationMs, list, onOff, port, readConfig } from '../shared/config.ts'
import type { Environment } from '../shared/config.ts'
import { messageOf } from '../shared/errors.ts'
import { LOG_LEVELS } from '../shared/log.ts'
import type { LogLevel } from '../shared/log.ts'
import { parseAddress } from '../shared/mqtt/address.ts'
import { GATEWAY_ID } from '../shared/topics.ts'

const KB = 1_000
const MIB = 2 ** 20
const HOUR_MS = 3_600_000
const WEEK_MS = 7 * 24 * HOUR_MS

const MAX_SOURCES = 32
const MAX_PREFIX_BYTES = 200
const MAX_TOPIC_BYTES = 65_535

/** A size or a duration within bounds; `shown` says them as a person would write them. */
function within(schema: typeof byteSize, min: number, max: number, shown: string) {
  return schema.refine((value) => value >= min && value <= max, `must be ${shown}`)
}

const host = z.string().regex(/^[\w.:%-]+$/, 'must be a host name or an address to listen on, such as 127.0.0.1')

const brokerUrl = z.string().superRefine((url, context) => {
  const problem = problemOfUrl(url)
  if (problem !== null) context.addIssue({ code: 'custom', message: problem })
})

const brokerUrls = list.superRefine((urls, context) => {
  if (urls.length > MAX_SOURCES) context.addIssue({ code: 'custom', message: `must be at most ${MAX_SOURCES} URLs` })
  for (const [index, url] of urls.entries()) {
    const problem = problemOfUrl(url)
    if (problem !== null) context.addIssue({ code: 'custom', message: `URL ${index + 1}: ${problem}` })
  }
})

const topicFilters = list.superRefine((filters, context) => {
  if (filters.length === 0)
    context.addIssue({ code: 'custom', message: 'must name at least one topic filter, such as #' })
  for (const filter of filters) {
    if (!isTopicFilter(filter)) {
      context.addIssue({
        code: 'custom',
        message: `${JSON.stringify(filter)} is no topic filter; + and # stand alone in a level, # in the last`
      })
    }
  }
})

const sensorPrefix = z
  .string()
  .refine((prefix) => Buffer.byteLength(prefix) <= MAX_PREFIX_BYTES, `must be at most ${MAX_PREFIX_BYTES} bytes`)
  .refine((prefix) => !/[\p{Cc}+#]/u.test(prefix), 'must hold no control characters, + or #')

const whenFull = z.literal('reject', {
  error: ({ input }) =>
    input === 'evict-oldest'
      ? 'evict-oldest comes with a later version; only reject is available now'
      : 'must be reject'
})

export const edgeConfig = z.object({
  EDGE_GATEWAY_ID: z
    .string()
    .regex(GATEWAY_ID, 'must be 1 to 63 lower-case letters, digits and hyphens, and not begin with a hyphen')
    .nullable()
    .default(null),
  EDGE_DATA_DIR: z.string().default('./data/edge'),
  EDGE_BROKER: onOff.default(true),
  EDGE_BROKER_HOST: host.default('127.0.0.1'),
  EDGE_BROKER_PORT: port.default(1_883),
  EDGE_SOURCE_URLS: brokerUrls.default([]),
  EDGE_SOURCE_TOPICS: topicFilters.default(['#']),
  EDGE_SENSOR_PREFIX: sensorPrefix.default(''),
  EDGE_UPLINK_URL: brokerUrl.default('mqtt://127.0.0.1:1884'),
  EDGE_HTTP_HOST: host.default('127.0.0.1'),
  EDGE_HTTP_PORT: port.default(8_081),
  EDGE_BUFFER_MAX_BYTES: within(byteSize, 16 * MIB, 2 ** 40, '16MiB to 1TiB').default(4 * 2 ** 30),
  EDGE_BUFFER_WHEN_FULL: whenFull.default('reject'),
  EDGE_BATCH_MAX_BYTES: within(byteSize, 10 * KB, 200 * KB, '10kB to 200kB').default(100 * KB),
  EDGE_COMMIT_WINDOW_MS: within(durationMs, 0, 5_000, '0 to 5s').default(20),
  EDGE_LINGER_MS: within(durationMs, 0, 60_000, '0 to 60s').default(200),
  EDGE_DEDUPE_WINDOW_MS: within(durationMs, 0, WEEK_MS, '0 to 7d').default(HOUR_MS),
  EDGE_KEEP_ACKED_MS: within(durationMs, 0, WEEK_MS, '0 to 7d').default(HOUR_MS),
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  LOG_FILE: z.string().nullable().default(null)
})

export type EdgeSettings = {
  /** Null: generated once, and kept in the data folder. */
  gatewayId: string | null
  dataFolder: string
  /** Null: no embedded broker. */
  broker: { host: string; port: number } | null
  sources: { urls: string[]; topics: string[] }
  sensorPrefix: string
  uplinkUrl: string
  http: { host: string; port: number }
  buffer: { maxBytes: number; maxBatchBytes: number; lingerMs: number; dedupeWindowMs: number; keepAckedMs: number }
  commitWindowMs: number
  log: { level: LogLevel; file: string | null }
}

/** @throws AppError `config_invalid` with one line for each problem. */
export function readEdgeSettings(env: Environment): EdgeSettings {
  const config = readConfig(edgeConfig, env)
  return {
    gatewayId: config.EDGE_GATEWAY_ID,
    dataFolder: config.EDGE_DATA_DIR,
    broker: config.EDGE_BROKER ? { host: config.EDGE_BROKER_HOST, port: config.EDGE_BROKER_PORT } : null,
    sources: { urls: config.EDGE_SOURCE_URLS, topics: config.EDGE_SOURCE_TOPICS },
    sensorPrefix: config.EDGE_SENSOR_PREFIX,
    uplinkUrl: config.EDGE_UPLINK_URL,
    http: { host: config.EDGE_HTTP_HOST, port: config.EDGE_HTTP_PORT },
    buffer: {
      maxBytes: config.EDGE_BUFFER_MAX_BYTES,
      maxBatchBytes: config.EDGE_BATCH_MAX_BYTES,
      lingerMs: config.EDGE_LINGER_MS,
      dedupeWindowMs: config.EDGE_DEDUPE_WINDOW_MS,
      keepAckedMs: config.EDGE_KEEP_ACKED_MS
    },
    commitWindowMs: config.EDGE_COMMIT_WINDOW_MS,
    log: { level: config.LOG_LEVEL, file: config.LOG_FILE }
  }
}

function problemOfUrl(url: string): string | null {
  try {
    parseAddress(url)
    return null
  } catch (error) {
    return messageOf(error)
  }
}

/** MQTT 3.1.1, 4.7.1: `+` fills a whole level, `#` the whole last one. */
function isTopicFilter(filter: string): boolean {
  if (Buffer.byteLength(filter) > MAX_TOPIC_BYTES || filter.includes('\0')) return false
  const levels = filter.split('/')
  return levels.every((level, index) => {
    if (level === '#') return index === levels.length - 1
    return level === '+' || !/[+#]/.test(level)
  })
}
