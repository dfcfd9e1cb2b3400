// The lifecycle of a process: what is opened is closed in reverse order, within a deadline; a second signal ends at once.
import type { Log } from './log.ts'

/** Within this time the same signal is taken for the same key press: a terminal and a parent may both send it. */
const SAME_PRESS_MS = 500

/** How long closing may take before the process ends anyway, ms. */
const CLOSE_DEADLINE_MS = 8_000

export type Closers = {
  /** Remembers how to close what was just opened. */
  add(name: string, close: () => Promise<void> | void): void
  /** Closes all in reverse; an error in one doesn't keep the others open. Runs once; a second call waits for the first. */
  closeAll(): Promise<void>
}

export function createClosers(log: Log): Closers {
  const closers: { name: string; close: () => Promise<void> | void }[] = []
  let closing: Promise<void> | null = null
  async function run(): Promise<void> {
    for (let closer = closers.pop(); closer !== undefined; closer = closers.pop()) {
      try {
        await closer.close()
      } catch (error) {
        log.error({ err: error, closing: closer.name }, 'closing failed')
      }
    }
  }
  return {
    add(name, close) {
      closers.push({ name, close })
    },
    closeAll() {
      closing ??= run()
      return closing
    }
  }
}

/** Ends the process in order on SIGTERM and SIGINT: exit status 0 when all closed in time, else 1. */
export function closeOnSignal(closers: Closers, log: Log): void {
  let signalledMs: number | null = null
  function onSignal(signal: NodeJS.Signals): void {
    const nowMs = performance.now()
    if (signalledMs !== null) {
      if (nowMs - signalledMs >= SAME_PRESS_MS) process.exit(1)
      return
    }
    signalledMs = nowMs
    log.info({ signal }, 'stopping')
    const deadline = setTimeout(() => {
      log.error({ deadlineMs: CLOSE_DEADLINE_MS }, 'stopping took too long, ending')
      process.exit(1)
    }, CLOSE_DEADLINE_MS)
    deadline.unref()
    void closers.closeAll().then(() => {
      log.info('stopped')
      process.exit(0)
    })
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
}
