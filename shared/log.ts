// JSON logs: to standard output, and to a rotating file where LOG_FILE names one.
import { pino } from 'pino'
import type { Logger } from 'pino'

export type Log = Logger

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** Rotation: at most five files of 20 MB. */
const FILE_SIZE = '20m'
const FILE_COUNT = 5

/**
 * Opens the log of a service. Children are made per part: `log.child({ part: 'uplink' })`.
 * Keys that may hold a secret are written as `[redacted]` wherever they stand in the first two levels.
 */
export function openLog(options: { service: string; level: LogLevel; file: string | null }): Log {
  const base = {
    base: { service: options.service },
    level: options.level,
    redact: {
      paths: ['password', '*.password', 'secret', '*.secret', 'token', '*.token', 'authorization', '*.authorization'],
      censor: '[redacted]'
    },
    timestamp: pino.stdTimeFunctions.isoTime
  }
  if (options.file === null) return pino(base)
  return pino({
    ...base,
    transport: {
      targets: [
        { target: 'pino/file', level: options.level, options: { destination: 1 } },
        {
          target: 'pino-roll',
          level: options.level,
          options: { file: options.file, size: FILE_SIZE, limit: { count: FILE_COUNT }, mkdir: true }
        }
      ]
    }
  })
}

/** A log that writes nothing, for tests and tools. */
export function silentLog(): Log {
  return pino({ level: 'silent' })
}
