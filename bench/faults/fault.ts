// What a fault is: a way to break the line, round by round, and what was found afterwards.
import type { Bed } from './bed.ts'
import type { Checks } from './checks.ts'
import type { Random } from '../oracle/random.ts'
import type { Verdict } from './verdict.ts'

export type Run = {
  bed: Bed
  /** Of this fault in this run; deleted afterwards unless something failed. */
  folder: string
  seed: number
  random: Random
  rounds: number
  checks: Checks
  /** One line about a round. */
  say(text: string): void
}

export type Outcome = {
  rounds: number
  verdict: Verdict
  /** The longest time from a fault's end to the first acceptance, ms; null: not measured. */
  worstRecoveryMs: number | null
  /** For the table; empty when there is nothing to say. */
  note: string
}

export type Fault = {
  id: string
  title: string
  rounds: { short: number; long: number }
  /** Why it can't run here; null when it can. */
  missing?: () => string | null
  run(run: Run): Promise<Outcome>
}
