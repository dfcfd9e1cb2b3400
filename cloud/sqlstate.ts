// What an error of the database means for the record at hand. Only a verdict of the server on the data makes a record
// bad: an error without an SQLSTATE (a lost connection, a refused one, a time-out of ours) is always worth another try.
import { codeOf } from '../shared/errors.ts'

export type ErrorKind = 'transient' | 'duplicate' | 'permanent'

/** Five digits or capitals. No SQLSTATE begins with E, but errno codes do: EPIPE is none. */
const SQLSTATE = /^[0-9A-DF-Z][0-9A-Z]{4}$/

/** Whole classes (two characters) and single states (five) that pass by themselves or with the operator's help. */
const TRANSIENT = new Set([
  '08', // connection exception
  '25006', // read-only transaction: this server became a standby
  '25P03', // idle in transaction for too long: the server ended the session
  '28', // invalid authorization: a password being rotated, a rule of pg_hba.conf
  '3D', // no such database
  '40001', // serialization failure
  '40003', // statement completion unknown
  '40P01', // deadlock: we were the victim
  '53', // insufficient resources: disk, memory, connections, locks
  '55P03', // a lock was not to be had within lock_timeout
  '57' // operator intervention: shutdown, starting up, cancelled by statement_timeout
])

/** unique_violation. On a hypertable the constraint bears the chunk's name, so only the state tells. */
const DUPLICATE = '23505'

/** The server's SQLSTATE, also when the error is the cause of another; null when the server said nothing. */
export function sqlstateOf(error: unknown): string | null {
  const code = codeOf(error)
  if (code !== null && SQLSTATE.test(code)) return code
  return error instanceof Error && error.cause !== undefined ? sqlstateOf(error.cause) : null
}

/** `permanent` only for what the server refuses for good; see the top of this file. */
export function classify(error: unknown): ErrorKind {
  const state = sqlstateOf(error)
  if (state === DUPLICATE) return 'duplicate'
  if (state === null) return 'transient'
  return TRANSIENT.has(state) || TRANSIENT.has(state.slice(0, 2)) ? 'transient' : 'permanent'
}

/** Whether another try later can succeed with nothing changed but the circumstances. */
export function transient(error: unknown): boolean {
  return classify(error) === 'transient'
}
