// Waiting between tries: exponential with full jitter, so that a thousand gateways don't come back at once.
// Source of the rule: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

export type Backoff = {
  /** The next wait, ms: uniform between 0 and min(cap, base · 2^tries). */
  nextMs(): number
  /** After a success. */
  reset(): void
}

export function createBackoff(options: { baseMs: number; capMs: number; random?: () => number }): Backoff {
  const random = options.random ?? Math.random
  let tries = 0
  return {
    nextMs() {
      const ceilingMs = Math.min(options.capMs, options.baseMs * 2 ** Math.min(tries, 30))
      tries += 1
      return Math.round(random() * ceilingMs)
    },
    reset() {
      tries = 0
    }
  }
}

/** Resolves after `ms`, or at once when `signal` aborts; never rejects. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const finish = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', finish)
      resolve()
    }
    const timer = setTimeout(finish, ms)
    signal?.addEventListener('abort', finish)
  })
}
