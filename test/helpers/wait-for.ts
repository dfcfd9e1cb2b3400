// The only waiting in tests: look until it is so.

/** How often a condition is looked at, ms. */
const POLL_MS = 10
const DEFAULT_TIMEOUT_MS = 10_000

/**
 * Looks until `condition` gives something other than false, null or undefined, and gives that back.
 * @throws Error naming `what` after `timeoutMs` (10 s); an error of the condition itself is thrown on at once.
 */
export async function waitFor<T>(
  what: string,
  condition: () => T | Promise<T>,
  options: { timeoutMs?: number } = {}
): Promise<Exclude<T, false | null | undefined>> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const value = await condition()
    if (isSomething(value)) return value
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

function isSomething<T>(value: T): value is Exclude<T, false | null | undefined> {
  return value !== false && value !== null && value !== undefined
}
