// The edge as a process: `npm run edge`.
import { AppError } from '../shared/errors.ts'
import { openLog } from '../shared/log.ts'
import { closeOnSignal, createClosers } from '../shared/service.ts'
import { readEdgeSettings } from './config.ts'
import { startEdge } from './edge.ts'

/** Says in one plain line what is wrong and what to do, and ends; anything unforeseen is thrown on. */
function endWith(error: unknown): never {
  if (!(error instanceof AppError)) throw error
  process.stderr.write(`edge: ${error.message}${error.hint === null ? '' : `\n${error.hint}`}\n`)
  process.exit(1)
}

// Files that are made are this user's alone.
process.umask(0o077)
try {
  const settings = readEdgeSettings(process.env)
  const log = openLog({ service: 'edge', ...settings.log })
  process.on('uncaughtExceptionMonitor', (error) => log.fatal({ err: error }, 'the edge failed'))
  const closers = createClosers(log)
  closeOnSignal(closers, log)
  const edge = await startEdge(settings, {
    log,
    onFatal(error) {
      log.fatal({ err: error, hint: error.hint }, 'the edge ends; nothing more is acknowledged')
      process.exit(1)
    }
  })
  closers.add('edge', () => edge.close())
} catch (error) {
  endWith(error)
}
