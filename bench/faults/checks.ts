// The findings of a run, by invariant: a check without a problem has passed.

export const INVARIANTS = {
  I1: 'every accepted record is a row or a dead letter',
  I2: 'each exactly once',
  I3: 'nothing invented or altered',
  I4: 'the ledger is dense and its chain verifies',
  I5: 'the sums of edge and ledger balance',
  I8: 'maintenance events: each once, in order',
  I9: 'the buffer is whole after the stop, and no process is left',
  course: 'the fault took its course'
} as const
export type Invariant = keyof typeof INVARIANTS

/** Of a long list the first few are shown. */
const SHOWN = 5

export type Checks = {
  add(invariant: Invariant, problem: string): void
  /** Adds up to `SHOWN` of the problems, and how many more there are. */
  addAll(invariant: Invariant, problems: readonly string[]): void
  failed(): { invariant: Invariant; problem: string }[]
}

export function createChecks(): Checks {
  const failed: { invariant: Invariant; problem: string }[] = []
  return {
    add(invariant, problem) {
      failed.push({ invariant, problem })
    },
    addAll(invariant, problems) {
      for (const problem of problems.slice(0, SHOWN)) failed.push({ invariant, problem })
      if (problems.length > SHOWN) failed.push({ invariant, problem: `… and ${problems.length - SHOWN} more` })
    },
    failed: () => failed
  }
}
