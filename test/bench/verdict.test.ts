// The judge of the fault suite finds what it is there to find: a suite that can't fail proves nothing.
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { createChecks } from '../../bench/faults/checks.ts'
import { checkLedger } from '../../bench/faults/ledger.ts'
import { judge } from '../../bench/faults/verdict.ts'
import { codeOfValue, openJournal } from '../../bench/oracle/journal.ts'
import type { Line } from '../../bench/oracle/journal.ts'
import { BASE_US, createChain } from '../helpers/batches.ts'
import { openIngest, openSession } from '../helpers/ingest.ts'
import { temporaryFolder } from '../helpers/postgres.ts'

const VALUE = 0.1 + 0.2
const MARKER = 'poison-1.'

/** What the oracle of `openWorld` sent; all of it was accepted. */
const SENT: Line[] = [
  [
    'sent',
    'a',
    1,
    {
      kind: 'readings',
      readings: [1, 2, 3].map((of) => ({ sensor: 's1', timestampUs: BASE_US + of, value: codeOfValue(VALUE) }))
    }
  ],
  ['sent', 'b', 1, { kind: 'poison', marker: MARKER }],
  ['sent', 'c', 1, { kind: 'event', event: 'e1', task: 'T-1', state: 'pending', legal: true }],
  ['sent', 'd', 2, { kind: 'event', event: 'e2', task: 'T-1', state: 'in_progress', legal: true }],
  ...['a', 'b', 'c', 'd'].map((id): Line => ['accepted', id, 0])
]

/** Two batches of readings, with a reject, and two of events, stored; then `harm` is done to the database. */
async function judged(t: Test, harm: string | null, more: Line[] = []) {
  const bench = await openIngest(t)
  const chain = createChain('hall')
  const batches = [
    chain.readings([
      { sensor: 's1', timestampUs: BASE_US + 1, value: VALUE },
      { sensor: 's1', timestampUs: BASE_US + 2, value: VALUE }
    ]),
    chain.readings(
      [{ sensor: 's1', timestampUs: BASE_US + 3, value: VALUE }],
      [{ payload: Buffer.from(`{"x": ${MARKER}`) }]
    ),
    chain.events([{ id: 'e1', task: 'T-1', state: 'pending' }]),
    chain.events([{ id: 'e2', task: 'T-1', state: 'in_progress' }])
  ]
  for (const { arrived } of batches) await bench.writer().write([arrived])
  if (harm !== null) await bench.sql(harm)
  const path = join(temporaryFolder(t, 'millrace-verdict-'), 'journal')
  const journal = openJournal(path)
  for (const line of [...SENT, ...more]) journal.add(line)
  journal.close()
  const db = await openSession(t, bench.url)
  const checks = createChecks()
  const verdict = await judge(db, [path], checks)
  await checkLedger(db, checks)
  return { verdict, failed: checks.failed().map(({ invariant, problem }) => `${invariant} ${problem}`) }
}

t.test('a line that lost, doubled and altered nothing passes', async (t) => {
  const { verdict, failed } = await judged(t, null)
  t.same(failed, [])
  t.same(verdict, { sent: 4, accepted: 4, rows: 3, deadLetters: 1, events: 2, lost: 0, doubled: 0, altered: 0 })
})

const harms: [fact: string, sql: string, found: RegExp[], figures: object][] = [
  [
    'a row that is missing',
    `DELETE FROM sensor_readings WHERE value_text IS NULL AND timestamp = (SELECT max(timestamp) FROM sensor_readings)`,
    [/I1 lost: the reading \d+ s1/, /I5 the ledger counts 3 stored readings, there are 2/],
    { lost: 1, doubled: 0, altered: 0 }
  ],
  [
    'a value that differs in its last bit',
    `UPDATE sensor_readings SET value = 0.3 WHERE timestamp = (SELECT max(timestamp) FROM sensor_readings)`,
    [/I3 \d+ s1 is n:3fd3333333333333, sent was n:3fd3333333333334/],
    { lost: 0, altered: 1 }
  ],
  [
    'a timestamp that moved by a microsecond',
    `UPDATE sensor_readings SET timestamp = timestamp + interval '1 microsecond'
     WHERE timestamp = (SELECT max(timestamp) FROM sensor_readings)`,
    [/I3 the row \d+ s1 was never sent/, /I1 lost/],
    { lost: 1, altered: 1 }
  ],
  ['a dead letter that is missing', 'DELETE FROM dead_letters', [/I1 lost: the dead letter poison-1\./], { lost: 1 }],
  [
    'a dead letter that is there twice',
    `INSERT INTO dead_letters (id, gateway_id, source, reason, payload) SELECT 'again', gateway_id, source, reason, payload FROM dead_letters`,
    [/I2 doubled: the dead letter poison-1\.: 2 times, at most 1/],
    { doubled: 1 }
  ],
  [
    'a dead letter that nobody sent',
    `INSERT INTO dead_letters (id, gateway_id, source, reason, payload) VALUES ('x', 'hall', 'edge', 'payload_unreadable', '{')`,
    [/I3 dead letter x, payload_unreadable/],
    { altered: 1 }
  ],
  [
    'an event that is missing',
    `DELETE FROM maintenance_logs WHERE event_id = 'e1'`,
    [/I8 lost: the event e1 of T-1/],
    { lost: 1 }
  ],
  [
    'events that changed places',
    `UPDATE maintenance_logs SET id = DEFAULT WHERE event_id = 'e1'`,
    [/I8 T-1 went e2,e1, sent was e1,e2/],
    { lost: 0 }
  ],
  [
    'a hole in the ledger',
    `DELETE FROM ingest_batches WHERE lane = 'readings' AND batch = 1`,
    [/I4 hall\/\w+\/readings\/2 follows, expected was 1/],
    { lost: 0 }
  ],
  [
    'a chain that is broken',
    `UPDATE ingest_batches SET predecessor = sha256('x') WHERE lane = 'readings' AND batch = 2`,
    [/I4 hall\/\w+\/readings\/2 names another predecessor/],
    { lost: 0 }
  ]
]

for (const [fact, sql, found, figures] of harms) {
  t.test(`found: ${fact}`, async (t) => {
    const { verdict, failed } = await judged(t, sql)
    for (const pattern of found) t.match(failed.join('\n'), pattern)
    t.match(verdict, figures)
  })
}

t.test('what was sent and not accepted may be there or not', async (t) => {
  const reading = { sensor: 's1', timestampUs: BASE_US + 9, value: null }
  const { verdict, failed } = await judged(t, null, [['sent', 'e', 1, { kind: 'readings', readings: [reading] }]])
  t.same(failed, [])
  t.match(verdict, { sent: 5, accepted: 4, lost: 0 })
})

t.test('a QoS 1 message that was sent twice may be two dead letters, a QoS 2 one may not', async (t) => {
  const twice = `
    INSERT INTO dead_letters (id, gateway_id, source, reason, payload)
    SELECT 'again', gateway_id, source, reason, payload FROM dead_letters`
  const { verdict } = await judged(t, twice, [['again', 'b']])
  t.equal(verdict.doubled, 0)
  const fourth: Line = ['sent', 'e', 2, { kind: 'poison', marker: 'poison-2.' }]
  const both = `
    INSERT INTO dead_letters (id, gateway_id, source, reason, payload)
    SELECT id, 'hall', 'edge', 'payload_unreadable', 'poison-2.' FROM (VALUES ('one'), ('two')) AS letters (id)`
  const { verdict: strict } = await judged(t, both, [fourth, ['again', 'e'], ['accepted', 'e', 0]])
  t.equal(strict.doubled, 1)
})
