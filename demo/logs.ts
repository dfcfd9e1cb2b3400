// Logs of the services to files of their own, so that the screen stays a person's; what is worth a look is counted.
import { mkdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { AppError, messageOf } from '../shared/errors.ts'
import type { Log, LogLevel } from '../shared/log.ts'

export type Logs = {
  /** The log of one service, `{service}.log`. */
  open(service: string): Log
  /** Lines of level `warn` and above since the start. */
  counts(): { warnings: number; errors: number }
  close(): void
}

/** A file that has grown to this is moved to `….log.1`, and the one before it is deleted. Bytes. */
const MAX_FILE_BYTES = 20_000_000
const WARN = 40
const ERROR = 50

/** @throws AppError `folder_unwritable` */
export function openLogs(options: { folder: string; level: LogLevel }): Logs {
  const { folder, level } = options
  try {
    mkdirSync(folder, { recursive: true })
  } catch (error) {
    throw new AppError('folder_unwritable', `can't make ${folder}: ${messageOf(error)}`, {
      hint: 'correct the rights of that folder, or free space'
    })
  }
  const counts = { warnings: 0, errors: 0 }
  const streams: ReturnType<typeof pino.destination>[] = []

  function open(service: string): Log {
    const path = join(folder, `${service}.log`)
    let sizeBytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0
    const stream = pino.destination({ dest: path, append: true, sync: true })
    streams.push(stream)
    const destination = {
      write(line: string) {
        if (sizeBytes > MAX_FILE_BYTES) {
          renameSync(path, `${path}.1`)
          stream.reopen()
          sizeBytes = 0
        }
        sizeBytes += line.length
        stream.write(line)
      }
    }
    return pino(
      {
        base: { service },
        level,
        timestamp: pino.stdTimeFunctions.isoTime,
        hooks: {
          logMethod(args, write, lineLevel) {
            if (lineLevel >= ERROR) counts.errors += 1
            else if (lineLevel >= WARN) counts.warnings += 1
            write.apply(this, args)
          }
        }
      },
      destination
    )
  }

  return {
    open,
    counts: () => ({ ...counts }),
    close() {
      for (const stream of streams) stream.flushSync()
    }
  }
}
