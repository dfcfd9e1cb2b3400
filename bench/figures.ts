// What a bench finds: numbers of several rounds, held against a target. A rate counts only at zero lost.

export type Target = { atLeast: number } | { atMost: number }

/** What became of the records behind a figure; duplicates are those that the system itself made or let through. */
export type Losses = { sent: number; lost: number; duplicates: number }

export type Figure = {
  name: string
  unit: string
  /** One value a round, in order. */
  rounds: number[]
  median: number
  low: number
  high: number
  /** Null: reported, not judged. */
  target: Target | null
  /** Null without a target. */
  reached: boolean | null
  /** Null where nothing is sent. */
  losses: Losses | null
  /** How it was measured, where the name doesn't say it. */
  note: string | null
}

export type Outcome = {
  figures: Figure[]
  /** More to say: conditions, what the figure leaves out. */
  notes: string[]
  /** Why nothing was measured; null when something was. */
  skipped: string | null
}

export function figureOf(options: {
  name: string
  unit: string
  rounds: readonly number[]
  target?: Target
  losses?: Losses
  note?: string
}): Figure {
  const { name, unit } = options
  const rounds = [...options.rounds]
  const target = options.target ?? null
  const losses = options.losses ?? null
  const median = medianOf(rounds)
  const counts = losses === null || (losses.lost === 0 && losses.duplicates === 0)
  return {
    name,
    unit,
    rounds,
    median,
    low: Math.min(...rounds),
    high: Math.max(...rounds),
    target,
    reached: target === null ? null : counts && meets(median, target),
    losses,
    note: options.note ?? null
  }
}

export function skippedBecause(reason: string): Outcome {
  return { figures: [], notes: [], skipped: reason }
}

/** The middle value; of an even number the mean of the middle two; NaN of none. */
export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const low = sorted[(sorted.length - 1) >> 1] ?? Number.NaN
  const high = sorted[sorted.length >> 1] ?? Number.NaN
  return (low + high) / 2
}

export function sumOfLosses(all: readonly Losses[]): Losses {
  const sum = { sent: 0, lost: 0, duplicates: 0 }
  for (const { sent, lost, duplicates } of all) {
    sum.sent += sent
    sum.lost += lost
    sum.duplicates += duplicates
  }
  return sum
}

function meets(value: number, target: Target): boolean {
  return 'atLeast' in target ? value >= target.atLeast : value <= target.atMost
}
