// Whether a batch itself is what makes its transactions fail. It is suspected only while others get through: as long as
// nothing does, the database or this program is at fault, and nothing is held against the batch.
//
//   no suspicion → stubborn: errors that pass as a rule are taken for its records' own, and these are looked for
//               → given up: the whole batch becomes one dead letter, with its bytes
import { AppError, messageOf } from '../../shared/errors.ts'
import { sqlstateOf } from '../sqlstate.ts'
import type { RowRefusal } from './rows.ts'
import { TableFault } from './salvage.ts'

/** Failures between which others succeeded. */
const STUBBORN_TRIES = 5
const LAST_TRIES = 40

export type Suspicion = {
  /** All failures but those to reach the database. */
  tries: number
  /** Those between which others succeeded. */
  ownTries: number
  /** Successes of the line at the last failure. */
  successesThen: number
  /** Records that end the session, by their place among the batch's readings or events. */
  condemned: ReadonlyMap<number, RowRefusal>
  /** Why it is given up; null while it isn't. */
  verdict: string | null
}

export function noSuspicion(): Suspicion {
  return { tries: 0, ownTries: 0, successesThen: 0, condemned: new Map(), verdict: null }
}

/** Notes a failure. `successes`: of the line so far. */
export function suspect(suspicion: Suspicion, error: unknown, successes: number): void {
  if (suspicion.tries > 0 && successes > suspicion.successesThen) suspicion.ownTries += 1
  suspicion.tries += 1
  suspicion.successesThen = successes
  if (suspicion.ownTries < LAST_TRIES || !(isFaultOfProgram(error) || sessionEnded(error))) return
  suspicion.verdict = `given up after ${suspicion.tries} tries: ${messageOf(error)}`
}

export function isStubborn({ ownTries }: Suspicion): boolean {
  return ownTries >= STUBBORN_TRIES
}

/** Whether the session ended, so that nothing is known of a COMMIT under way. */
export function sessionEnded(error: unknown): boolean {
  if (isFaultOfProgram(error)) return false
  const sqlstate = sqlstateOf(error)
  return sqlstate === null || sqlstate.startsWith('08') || sqlstate.startsWith('57P')
}

/** Neither the server nor the connection to it is to blame: this program has thrown. */
export function isFaultOfProgram(error: unknown): boolean {
  return !(error instanceof AppError) && !(error instanceof TableFault) && sqlstateOf(error) === null
}
