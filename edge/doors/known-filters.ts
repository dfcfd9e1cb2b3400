// The filters that each source's session was subscribed with, kept beside the buffer: a persistent session remembers them, so
// one that is no longer configured must be unsubscribed.
import { readFileSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import type { Log } from '../../shared/log.ts'

const content = z.record(z.string(), z.array(z.string()))

/** The filters last saved for each source, by its number. A file that can't be read counts as none: logged. */
export function readKnownFilters(path: string, log: Log): Record<string, string[]> {
  try {
    return content.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
      log.warn(
        { err: error, path },
        'the list of former subscriptions can’t be read; former topics may still be delivered'
      )
    }
    return {}
  }
}

export function saveKnownFilters(path: string, filters: Record<string, string[]>): void {
  writeFileSync(path, JSON.stringify(filters), { mode: 0o600 })
}
