// The only waiting of the fault suite: look until it is so.
import { pause } from '../../shared/retry.ts'

const POLL_MS = 10

/**
 * Looks until `condition` gives something other than false, null or undefined, and gives that back.
 * @throws Error naming `what` after `timeoutMs`; an error of the condition itself is thrown on at once.
 */
export async function until<T>(
  what: string,
  timeoutMs: number,
  condition: () => T | Promise<T>
): Promise<Exclude<T, false | null | undefined>> {
  const deadlineMs = performance.now() + timeoutMs
  for (;;) {
    const value = await condition()
    if (isSomething(value)) return value
    if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs} ms in vain for: ${what}`)
    await pause(POLL_MS)
  }
}

function isSomething<T>(value: T): value is Exclude<T, false | null | undefined> {
  return value !== false && value !== null && value !== undefined
}
