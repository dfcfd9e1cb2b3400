// What keeps a lane from going on, in an operator's words.
import { messageOf } from '../../shared/errors.ts'
import { sqlstateOf } from '../sqlstate.ts'

export type Hold = {
  /** Null when the server said nothing: it can't be reached. */
  sqlstate: string | null
  message: string
  /** ISO 8601. */
  since: string
  /** What can be done about it. */
  hint: string
}

const HINTS: Record<string, string> = {
  '42501': 'grant the bridge the right that it lacks; it goes on by itself',
  '42703': 'a column is missing: run npm run migrate, or undo the change of the table; the bridge goes on by itself',
  '42P01': 'a table is missing: run npm run migrate; the bridge goes on by itself',
  '42883': 'a function is missing: run npm run migrate; the bridge goes on by itself',
  '23502': 'a column that the bridge does not fill is NOT NULL: give it a default; the bridge goes on by itself',
  '23514': 'a check constraint refuses every row: drop or correct it; the bridge goes on by itself',
  '25006':
    'the server is read-only, a standby perhaps: point DATABASE_URL at the primary; the bridge goes on by itself',
  '53100': 'the disk of the database is full: make room; the bridge goes on by itself'
}

export function holdOf(error: unknown, nowMs: number): Hold {
  const sqlstate = sqlstateOf(error)
  const unknown = 'see the message; the bridge keeps what it has, leaves the rest with the edges, and goes on by itself'
  const away = 'check that the database runs and can be reached; the bridge goes on by itself'
  return {
    sqlstate,
    message: messageOf(error),
    since: new Date(nowMs).toISOString(),
    hint: sqlstate === null ? away : (HINTS[sqlstate] ?? unknown)
  }
}
