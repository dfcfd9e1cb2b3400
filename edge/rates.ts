// How fast counters grow, smoothed: the mean over the last seconds.

export type Rates = {
  note(atMs: number, counts: { received: number; acknowledged: number }): void
  /** Records per second, 0 before the second note. */
  perSecond(): { received: number; acknowledged: number }
}

const WINDOW_MS = 15_000

/** `atMs`: monotonic, never less than before. */
export function createRates(windowMs = WINDOW_MS): Rates {
  const notes: { atMs: number; received: number; acknowledged: number }[] = []
  return {
    note(atMs, counts) {
      notes.push({ atMs, ...counts })
      while ((notes[1]?.atMs ?? Number.POSITIVE_INFINITY) <= atMs - windowMs) notes.shift()
    },
    perSecond() {
      const first = notes[0]
      const last = notes.at(-1)
      if (first === undefined || last === undefined || last.atMs <= first.atMs) return { received: 0, acknowledged: 0 }
      const seconds = (last.atMs - first.atMs) / 1_000
      return {
        received: Math.max(0, last.received - first.received) / seconds,
        acknowledged: Math.max(0, last.acknowledged - first.acknowledged) / seconds
      }
    }
  }
}
