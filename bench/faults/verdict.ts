// What the database holds after the drain against what the oracle knows (I1, I2, I3, I8).
import type pg from 'pg'
import { z } from 'zod'
import { codeOfValue } from '../oracle/journal.ts'
import type { Checks } from './checks.ts'
import { conflictKey, keyOf, readExpectation } from './expectation.ts'
import type { Expectation, ExpectedLetter } from './expectation.ts'

export type Verdict = {
  /** Messages. */
  sent: number
  accepted: number
  /** Records. */
  rows: number
  deadLetters: number
  events: number
  lost: number
  doubled: number
  altered: number
}

const rowOf = z.tuple([z.string(), z.string(), z.number().nullable(), z.string().nullable()])
const letterRow = z.object({
  id: z.string(),
  reason: z.string(),
  detail: z.string().nullable(),
  payload: z.instanceof(Buffer)
})
const record = z.object({ sensor_id: z.string(), timestamp_us: z.number(), value: z.unknown() })
const eventRow = z.object({ task: z.string(), event_id: z.string(), to_state: z.string(), legal: z.boolean() })

const MARKER = /poison-[\w-]+\./
const PORTION = 20_000

/** `db`: a connection of the tables' owner, outside any transaction. */
export async function judge(db: pg.Client, journals: readonly string[], checks: Checks): Promise<Verdict> {
  const expectation = await readExpectation(journals)
  const { sent, accepted } = expectation
  const verdict: Verdict = { sent, accepted, rows: 0, deadLetters: 0, events: 0, lost: 0, doubled: 0, altered: 0 }
  await readRows(db, expectation, verdict, checks)
  await readLetters(db, expectation, verdict, checks)
  await readEvents(db, expectation, verdict, checks)
  weigh(expectation, verdict, checks)
  return verdict
}

async function readRows(db: pg.Client, { readings }: Expectation, verdict: Verdict, checks: Checks): Promise<void> {
  const invented: string[] = []
  const altered: string[] = []
  await db.query('BEGIN')
  await db.query(`
    DECLARE found CURSOR FOR
    SELECT sensor_id, (extract(epoch FROM timestamp) * 1000000)::bigint::text, value, value_text FROM sensor_readings`)
  for (;;) {
    const { rows } = await db.query<unknown[]>({ text: `FETCH ${PORTION} FROM found`, rowMode: 'array' })
    if (rows.length === 0) break
    for (const row of rows) {
      const [sensor, timestampUs, value, text] = rowOf.parse(row)
      const key = keyOf(sensor, timestampUs)
      const expected = readings.get(key)
      verdict.rows += 1
      if (expected === undefined) {
        invented.push(`the row ${key} was never sent`)
        continue
      }
      expected.seen += 1
      const code = codeOfValue(text ?? value)
      if (code !== expected.value || (text !== null && value !== null)) {
        altered.push(`${key} is ${String(code)}, sent was ${String(expected.value)}`)
      }
    }
  }
  await db.query('COMMIT')
  verdict.altered += altered.length + invented.length
  checks.addAll('I3', [...invented, ...altered])
}

async function readLetters(db: pg.Client, expectation: Expectation, verdict: Verdict, checks: Checks): Promise<void> {
  const { rows } = await db.query<Record<string, unknown>>('SELECT id, reason, detail, payload FROM dead_letters')
  const unexpected: string[] = []
  for (const row of rows) {
    const letter = letterRow.parse(row)
    verdict.deadLetters += 1
    const found = findLetter(expectation, letter)
    if (found === undefined) {
      unexpected.push(
        `dead letter ${letter.id}, ${letter.reason}: ${letter.detail ?? ''} ${letter.payload.toString('latin1', 0, 200)}`
      )
    } else found.seen += 1
  }
  verdict.altered += unexpected.length
  checks.addAll('I3', unexpected)
}

function findLetter(
  expectation: Expectation,
  { reason, payload }: z.infer<typeof letterRow>
): ExpectedLetter | undefined {
  const marker = MARKER.exec(payload.toString('latin1'))?.[0]
  if (marker !== undefined) return expectation.poison.get(marker)
  const parsed = record.safeParse(jsonOf(payload))
  if (!parsed.success) return undefined
  const { sensor_id: sensor, timestamp_us: timestampUs, value } = parsed.data
  if (reason === 'conflict') return expectation.conflicts.get(conflictKey(sensor, timestampUs, value))
  return expectation.refused.get(keyOf(sensor, timestampUs))
}

function jsonOf(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString())
  } catch {
    return null
  }
}

async function readEvents(db: pg.Client, { tasks }: Expectation, verdict: Verdict, checks: Checks): Promise<void> {
  const { rows } = await db.query<Record<string, unknown>>(`
    SELECT task, event_id, to_state, legal
    FROM maintenance_logs
    JOIN maintenance_tasks ON maintenance_tasks.id = maintenance_logs.task_id
    ORDER BY maintenance_logs.id`)
  const problems: string[] = []
  const found = new Map<string, string[]>()
  for (const row of rows) {
    const { task, event_id: event, to_state: state, legal } = eventRow.parse(row)
    verdict.events += 1
    const expected = tasks.get(task)?.get(event)
    if (expected === undefined) {
      problems.push(`the event ${event} of ${task} was never sent`)
      continue
    }
    expected.seen += 1
    if (expected.state !== state || expected.legal !== legal) {
      problems.push(
        `${event} of ${task} is ${state}, legal ${legal}; sent was ${expected.state}, legal ${expected.legal}`
      )
    }
    found.set(task, [...(found.get(task) ?? []), event])
  }
  verdict.altered += problems.length
  for (const [task, events] of found) {
    const order = [...(tasks.get(task)?.keys() ?? [])].filter((event) => events.includes(event))
    if (order.join() !== events.join()) problems.push(`${task} went ${events.join()}, sent was ${order.join()}`)
  }
  const { rows: left } = await db.query('SELECT event_id FROM maintenance_inbox')
  if (left.length > 0) problems.push(`${left.length} events are still in the inbox`)
  checks.addAll('I8', problems)
}

function weigh({ readings, conflicts, refused, poison, tasks }: Expectation, verdict: Verdict, checks: Checks): void {
  const lost: string[] = []
  const doubled: string[] = []
  for (const [key, { accepted, seen }] of readings) {
    if (accepted && seen === 0) lost.push(`the reading ${key}`)
    if (seen > 1) doubled.push(`the reading ${key}, ${seen} times`)
  }
  for (const letters of [conflicts, refused, poison]) {
    for (const { accepted, seen, atMost, what } of letters.values()) {
      if (accepted && seen === 0) lost.push(`the dead letter ${what}`)
      if (seen > atMost) doubled.push(`the dead letter ${what}: ${seen} times, at most ${atMost}`)
    }
  }
  const events: string[] = []
  for (const [task, ofTask] of tasks) {
    for (const [event, { accepted, seen }] of ofTask) {
      if (accepted && seen === 0) events.push(`the event ${event} of ${task}`)
      if (seen > 1) doubled.push(`the event ${event} of ${task}, ${seen} times`)
    }
  }
  verdict.lost = lost.length + events.length
  verdict.doubled = doubled.length
  checks.addAll(
    'I1',
    lost.map((what) => `lost: ${what}`)
  )
  checks.addAll(
    'I8',
    events.map((what) => `lost: ${what}`)
  )
  checks.addAll(
    'I2',
    doubled.map((what) => `doubled: ${what}`)
  )
}
