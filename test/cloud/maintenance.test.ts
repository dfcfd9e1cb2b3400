// Maintenance events into tasks: in order, each once, illegal changes kept and flagged.
import t from 'tap'
import { legal, legalTargets, demandLegal } from '../../cloud/maintenance/state-machine.ts'
import { listTasks } from '../../cloud/maintenance/tasks.ts'
import { TASK_STATES } from '../../shared/event.ts'
import { BASE_US, createChain, epochOf, ramp } from '../helpers/batches.ts'
import { NOW_MS, openIngest, unbalanced, writeAll } from '../helpers/ingest.ts'
import { waitFor } from '../helpers/wait-for.ts'

const committed = { result: 'committed', reason: null, stored: 0, duplicates: 0, deadLetters: 0 }

t.test(
  'the legal changes are those of the design, and an illegal one is refused with the legal ones named',
  async (t) => {
    const pairs = TASK_STATES.flatMap((from) =>
      TASK_STATES.filter((to) => legal(from, to)).map((to) => `${from} ${to}`)
    )
    t.same(pairs, [
      'pending in_progress',
      'pending cancelled',
      'in_progress completed',
      'in_progress partially_completed',
      'in_progress failed',
      'in_progress cancelled'
    ])
    t.same(
      TASK_STATES.filter((to) => legal(null, to)),
      TASK_STATES
    )
    t.same(legalTargets('failed'), [])
    t.throws(() => demandLegal('pending', 'completed'), {
      code: 'illegal_transition',
      hint: 'from pending it can become in_progress, cancelled'
    })
    t.throws(() => demandLegal('failed', 'pending'), { code: 'illegal_transition', hint: 'failed is final' })
    t.doesNotThrow(() => demandLegal('pending', 'in_progress'))
  }
)

t.test('events open a task, change it and leave a log', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const chain = createChain('g')
  const batch = chain.events([
    { id: 'e1', task: 'T', state: 'pending', title: 'grease', equipment: 'press-7', timestampUs: BASE_US + 1 },
    { id: 'e2', task: 'T', state: 'in_progress', by: 'Ada', timestampUs: BASE_US + 2 },
    { id: 'e3', task: 'U', state: 'pending', sensor: 's1', timestampUs: BASE_US + 3 },
    { id: 'e4', task: 'T', state: 'completed', by: 'Ada', note: 'done', timestampUs: BASE_US + 4 }
  ])
  t.same(await writer.write([batch.arrived]), [{ ...committed, stored: 4 }])
  const tasks = await bench.database.withClient((client) => listTasks(client, { limit: 10 }))
  t.match(tasks, [
    { task: 'T', state: 'completed', title: 'grease', equipment: 'press-7', flagged: false, changes: 3 },
    { task: 'U', state: 'pending', sensor: 's1', closedAt: null, changes: 1 }
  ])
  t.same(
    await bench.database
      .withClient((client) => listTasks(client, { state: 'pending', limit: 1 }))
      .then((found) => found.map(({ task }) => task)),
    ['U']
  )
  t.same(
    await bench.sql(`SELECT event_id, from_state, to_state, legal, done_by, note,
      (extract(epoch FROM happened_at) * 1000000)::bigint - ${BASE_US} AS us FROM maintenance_logs ORDER BY id`),
    [
      { event_id: 'e1', from_state: null, to_state: 'pending', legal: true, done_by: null, note: null, us: 1 },
      {
        event_id: 'e2',
        from_state: 'pending',
        to_state: 'in_progress',
        legal: true,
        done_by: 'Ada',
        note: null,
        us: 2
      },
      { event_id: 'e3', from_state: null, to_state: 'pending', legal: true, done_by: null, note: null, us: 3 },
      {
        event_id: 'e4',
        from_state: 'in_progress',
        to_state: 'completed',
        legal: true,
        done_by: 'Ada',
        note: 'done',
        us: 4
      }
    ]
  )
  t.same(await bench.sql('SELECT count(*) FROM maintenance_inbox'), [{ count: 0 }])
  t.same(await unbalanced(bench), [])
})

t.test('an illegal change is applied, logged as such, and flags its task', async (t) => {
  const bench = await openIngest(t)
  const batch = createChain('g').events([
    { id: 'e1', task: 'T', state: 'pending' },
    { id: 'e2', task: 'T', state: 'completed' },
    { id: 'e3', task: 'T', state: 'in_progress' }
  ])
  await bench.writer().write([batch.arrived])
  t.match(await bench.sql('SELECT state, flagged, closed_at FROM maintenance_tasks'), [
    { state: 'in_progress', flagged: true, closed_at: null }
  ])
  t.same(await bench.sql('SELECT from_state, to_state, legal FROM maintenance_logs ORDER BY id'), [
    { from_state: null, to_state: 'pending', legal: true },
    { from_state: 'pending', to_state: 'completed', legal: false },
    { from_state: 'completed', to_state: 'in_progress', legal: false }
  ])
})

t.test('events wait until all batches before theirs are there, and are then applied in order', async (t) => {
  const bench = await openIngest(t)
  const writers = [bench.writer(), bench.writer()]
  const chain = createChain('g')
  const states = ['pending', 'in_progress', 'partially_completed'] as const
  const batches = Array.from({ length: 30 }, (_, index) =>
    chain.events([{ id: `e${index}`, task: `T${Math.floor(index / 3)}`, state: states[index % 3] ?? 'pending' }])
  )
  const [first, ...others] = batches
  if (first === undefined) throw new Error('thirty batches')
  await Promise.all(writers.map((writer, index) => writeAll(writer, index === 0 ? others : others.toReversed())))
  t.same(await bench.sql('SELECT count(*) FROM maintenance_logs'), [{ count: 0 }])
  t.same(await bench.sql('SELECT count(*) FROM maintenance_inbox'), [{ count: 29 }])
  await writers[1]?.write([first.arrived])
  t.same(
    await bench.sql('SELECT event_id FROM maintenance_logs ORDER BY id'),
    batches.map((_, index) => ({ event_id: `e${index}` }))
  )
  t.same(
    await bench.sql(`SELECT count(*) FROM maintenance_tasks WHERE state = 'partially_completed' AND NOT flagged`),
    [{ count: 10 }]
  )
  t.same(await bench.sql('SELECT count(*) FROM maintenance_inbox'), [{ count: 0 }])
  t.same(await unbalanced(bench), [])
})

t.test(
  'an event that comes again is a duplicate, with another content a dead letter, also while it waits',
  async (t) => {
    const bench = await openIngest(t)
    const writer = bench.writer()
    const event = { id: 'e1', task: 'T', note: 'ö', timestampUs: BASE_US + 1 }
    const waiting = { id: 'e2', task: 'T', state: 'in_progress' as const }
    const one = createChain('g', epochOf('one'))
    await writer.write([one.events([event]).arrived])
    one.events([{ id: 'missing', task: 'T' }])
    await writer.write([one.events([waiting]).arrived])
    const two = createChain('g', epochOf('two'))
    const again = two.events([
      event,
      waiting,
      { ...event, note: 'else' },
      { ...waiting, task: 'U' },
      { id: 'e3', task: 'V' },
      { id: 'e3', task: 'V' },
      { ...event, receivedUs: BASE_US + 99, topic: 'elsewhere/maintenance' },
      { ...event, title: 'another title' },
      { ...waiting, equipment: 'press-8' }
    ])
    t.same(await writer.write([again.arrived]), [{ ...committed, stored: 1, duplicates: 4, deadLetters: 4 }])
    t.same(await bench.sql('SELECT reason, seq FROM dead_letters ORDER BY seq'), [
      { reason: 'conflict', seq: 3 },
      { reason: 'conflict', seq: 4 },
      { reason: 'conflict', seq: 8 },
      { reason: 'conflict', seq: 9 }
    ])
    t.same(await writer.write([createChain('other').events([event]).arrived]), [{ ...committed, stored: 1 }])
    t.same(await unbalanced(bench), [])
  }
)

t.test(
  'events whose predecessors never came are applied, flagged, when the gateway goes on in a new epoch',
  async (t) => {
    const bench = await openIngest(t)
    let nowMs = NOW_MS
    const writer = bench.writer({ now: () => nowMs++ })
    const one = createChain('g', epochOf('one'))
    await writer.write([one.events([{ id: 'e1', task: 'T' }]).arrived])
    const missing = one.events([{ id: 'e2', task: 'T', state: 'in_progress' }])
    const waiting = [
      one.events([
        { id: 'e3', task: 'T', state: 'in_progress' },
        { id: 'e4', task: 'T', state: 'completed' }
      ]),
      one.events([{ id: 'e5', task: 'U' }])
    ]
    await writeAll(writer, waiting.toReversed())
    const other = createChain('other')
    await writer.write([other.events([{ id: 'o1', task: 'T' }]).arrived])
    const two = createChain('g', epochOf('two'))
    const [first, second] = [
      two.events([{ id: 'e6', task: 'V' }]),
      two.events([{ id: 'e7', task: 'V', state: 'cancelled' }])
    ]
    await writer.write([second.arrived])
    t.same(await bench.sql('SELECT event_id FROM maintenance_inbox ORDER BY event_id'), [
      { event_id: 'e3' },
      { event_id: 'e4' },
      { event_id: 'e5' },
      { event_id: 'e7' }
    ])
    await writer.write([first.arrived])
    t.match(
      await bench.sql(`SELECT event_id, legal, remark FROM maintenance_logs WHERE gateway_id = 'g' ORDER BY id`),
      [
        { event_id: 'e1', legal: true, remark: null },
        { event_id: 'e3', legal: true, remark: /events before it never came/ },
        { event_id: 'e4', legal: true, remark: /never came/ },
        { event_id: 'e5', legal: true, remark: /never came/ },
        { event_id: 'e6', legal: true, remark: null },
        { event_id: 'e7', legal: true, remark: null }
      ]
    )
    t.same(
      await bench.sql('SELECT gateway_id, task, state, flagged FROM maintenance_tasks ORDER BY gateway_id, task'),
      [
        { gateway_id: 'g', task: 'T', state: 'completed', flagged: true },
        { gateway_id: 'g', task: 'U', state: 'pending', flagged: true },
        { gateway_id: 'g', task: 'V', state: 'cancelled', flagged: false },
        { gateway_id: 'other', task: 'T', state: 'pending', flagged: false }
      ]
    )
    t.same(await writer.write([missing.arrived]), [{ ...committed, stored: 1 }])
    t.match(await bench.sql(`SELECT legal, remark FROM maintenance_logs WHERE event_id = 'e2'`), [
      { legal: false, remark: null }
    ])
    t.same(await bench.sql('SELECT count(*) FROM maintenance_inbox'), [{ count: 0 }])
    t.same(await unbalanced(bench), [])
  }
)

t.test(
  'the same events in two epochs at two bridges at once are applied once, and none is a dead letter',
  async (t) => {
    const bench = await openIngest(t)
    const writers = [bench.writer(), bench.writer()]
    const outcomes = await Promise.all(
      writers.map((writer, index) => {
        const chain = createChain('g', epochOf(`epoch ${index}`))
        const batches = Array.from({ length: 60 }, (_, batch) =>
          chain.events(
            Array.from({ length: 10 }, (_, event) => ({ id: `e${batch}-${event}`, task: `T${batch}-${event}` }))
          )
        )
        return writeAll(writer, batches)
      })
    )
    const sum = (key: 'stored' | 'duplicates' | 'deadLetters') =>
      outcomes.flat().reduce((total, outcome) => total + outcome[key], 0)
    t.same([sum('stored'), sum('duplicates'), sum('deadLetters')], [600, 600, 0])
    t.same(await bench.sql('SELECT count(*), count(DISTINCT event_id) AS events FROM maintenance_logs'), [
      { count: 600, events: 600 }
    ])
    t.same(await unbalanced(bench), [])
  }
)

t.test('a bad event is a dead letter and sinks no other', async (t) => {
  const bench = await openIngest(t)
  await bench.sql(`ALTER TABLE maintenance_inbox ADD CONSTRAINT sane CHECK (body ->> 'by' IS DISTINCT FROM 'mallory')`)
  const batch = createChain('g').events([
    { id: 'e1', task: 'T' },
    { id: 'e2', task: 'T', note: 'a\0b' },
    { id: 'e3', task: 'T', by: 'mallory' },
    { id: 'e4', task: 'T', state: 'in_progress' }
  ])
  t.same(await bench.writer().write([batch.arrived]), [{ ...committed, stored: 2, deadLetters: 2 }])
  t.match(await bench.sql('SELECT sqlstate, seq, topic FROM dead_letters ORDER BY seq'), [
    { sqlstate: '22021', seq: 2, topic: 'plant/maintenance' },
    { sqlstate: '23514', seq: 3 }
  ])
  t.same(await bench.sql('SELECT state FROM maintenance_tasks'), [{ state: 'in_progress' }])
  t.same(await unbalanced(bench), [])
})

t.test('maintenance that is held does not hold the readings', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  await bench.sql('ALTER TABLE maintenance_tasks RENAME TO elsewhere')
  const chain = createChain('g')
  const held = writer.write([chain.events([{ id: 'e1', task: 'T' }]).arrived])
  await waitFor('the maintenance to be held', () => writer.state().held?.sqlstate === '42P01')
  t.match(await writer.write([chain.readings(ramp(10)).arrived]), [{ stored: 10 }])
  await bench.sql('ALTER TABLE elsewhere RENAME TO maintenance_tasks')
  t.same(await held, [{ ...committed, stored: 1 }])
  t.equal(writer.state().held, null)
})
