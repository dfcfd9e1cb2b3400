import t from 'tap'
import { createDecoder } from '../../edge/decode/decode.ts'
import type { Decoded } from '../../edge/decode/decode.ts'
import { TASK_STATES } from '../../shared/event.ts'

const TOPIC = 'plant/line-3/press-07/maintenance'
const ARRIVAL_US = 1_795_309_999_000_000

let ids = 0

function decode(payload: string | object, options: { topic?: string; prefix?: string } = {}): Decoded {
  return createDecoder({ sensorPrefix: options.prefix ?? '' })({
    topic: options.topic ?? TOPIC,
    payload: Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload)),
    retained: false,
    receivedUs: ARRIVAL_US,
    newId: () => {
      ids += 1
      return `new-${ids}`
    }
  })
}

t.test('an event is taken with all its fields', async (t) => {
  const fields = {
    event_id: 'E-1',
    task: 'WO-4711',
    state: 'in_progress',
    equipment: 'press-07',
    sensor: 't-7',
    title: 'Change the seal',
    by: 'M. Jansen',
    note: 'worn',
    timestamp: '2026-11-22T01:02:03.456789Z'
  }
  t.strictSame(decode(fields, { prefix: 'hall-2/' }), {
    readings: [],
    events: [
      {
        id: 'E-1',
        task: 'WO-4711',
        state: 'in_progress',
        equipment: 'press-07',
        sensor: 'hall-2/t-7',
        title: 'Change the seal',
        by: 'M. Jansen',
        note: 'worn',
        timestampUs: 1_795_309_323_456_789,
        receivedUs: ARRIVAL_US,
        topic: TOPIC
      }
    ],
    rejects: []
  })
})

t.test('the other names of fields do too, and numbers and blanks', async (t) => {
  const payload =
    '{"task_id":12345678901234567890,"status":"Failed","equipment_id":7,"sensor_id":"s","user":"","by":" ","comment":"c","title":null,"ts":1795309323}'
  t.match(decode(payload).events, [
    {
      task: '12345678901234567890',
      state: 'failed',
      equipment: '7',
      sensor: 's',
      by: null,
      note: 'c',
      title: null,
      timestampUs: 1_795_309_323_000_000
    }
  ])
})

t.test('a state is told in any case, with blanks or hyphens, British or American', async (t) => {
  for (const state of TASK_STATES) {
    for (const written of [state, state.toUpperCase(), ` ${state.replaceAll('_', ' ')} `, state.replaceAll('_', '-')]) {
      t.equal(decode({ task: 'T', state: written }).events[0]?.state, state, written)
    }
  }
  t.equal(decode({ task: 'T', state: 'Canceled' }).events[0]?.state, 'cancelled')
  t.equal(decode({ task: 'T', state: null, status: 'pending' }).events[0]?.state, 'pending')
})

t.test('an event without a task is of its equipment, or else of its place', async (t) => {
  t.equal(decode({ state: 'pending', equipment: 'press-07' }).events[0]?.task, 'press-07')
  t.match(decode({ state: 'pending' }).events[0], { task: 'plant/line-3/press-07', equipment: null })
  t.match(decode({ state: 'pending' }, { topic: 'maintenance' }).rejects[0], {
    reason: 'event_unreadable',
    detail: /task is missing/
  })
})

t.test('an event that comes again has the id it had, another has another', async (t) => {
  const event = { task: 'T-1', state: 'completed', timestamp: '2026-11-22T01:02:03Z' }
  const idOf = (payload: object, topic?: string) => decode(payload, topic === undefined ? {} : { topic }).events[0]?.id
  const id = idOf(event)
  t.match(id, /^[0-9a-f]{32}$/)
  t.equal(idOf({ status: 'COMPLETED', ts: 1795309323, task_id: 'T-1' }), id)
  const others = [
    idOf({ ...event, task: 'T-2' }),
    idOf({ ...event, state: 'failed' }),
    idOf({ ...event, timestamp: '2026-11-22T01:02:03.000001Z' }),
    idOf(event, 'other/maintenance')
  ]
  t.equal(new Set([id, ...others]).size, 5)
})

t.test('an event with neither id nor timestamp is new each time, at its arrival', async (t) => {
  const [first] = decode({ task: 'T-1', state: 'completed' }).events
  const [second] = decode({ task: 'T-1', state: 'completed' }).events
  t.match(first?.id, /^new-/)
  t.not(first?.id, second?.id)
  t.equal(first?.timestampUs, ARRIVAL_US)
})

t.test('an array carries events, each for itself', async (t) => {
  const { events, rejects } = decode('[{"task":"A","state":"pending"},{"task":"B"}, 7 ,{"task":"C","state":"failed"}]')
  t.strictSame(
    events.map(({ task }) => task),
    ['A', 'C']
  )
  t.strictSame(
    rejects.map(({ reason, payload }) => [reason, Buffer.from(payload).toString()]),
    [
      ['event_unreadable', '{"task":"B"}'],
      ['payload_unreadable', '7']
    ]
  )
})

t.test('what can not be taken is a reject that says what is allowed', async (t) => {
  const cases: [string, string, RegExp][] = [
    ['{"task":"T"}', 'event_unreadable', /state is missing; allowed are pending, in_progress, completed/],
    ['{"task":"T","state":"done"}', 'event_unreadable', /state is "done"; allowed are pending/],
    ['{"task":"T","state":3}', 'event_unreadable', /state is 3/],
    ['{"task":{},"state":"pending"}', 'event_unreadable', /task is an object; a text or a number/],
    ['{"task":"T","state":"pending","note":true}', 'event_unreadable', /note is true/],
    ['{"task":"T","state":"pending","title":"\\ud800"}', 'event_unreadable', /title .*surrogate/],
    [`{"task":"${'x'.repeat(201)}","state":"pending"}`, 'event_unreadable', /task can't be taken: .*200/],
    [`{"task":"T","state":"pending","note":"${'x'.repeat(8001)}"}`, 'event_unreadable', /note can't be taken: .*8000/],
    ['{"task":"T","state":"pending","timestamp":"2026-11-22T01:02:03"}', 'timestamp_unreadable', /offset/],
    ['{"task":"T","state":"pending","timestamp":1e300}', 'timestamp_out_of_range', /1684/],
    ['completed', 'event_unreadable', /no JSON object/],
    ['true', 'event_unreadable', /no JSON object/],
    ['{"task":', 'payload_unreadable', /begins like JSON/],
    ['', 'payload_unreadable', /empty/]
  ]
  for (const [payload, reason, detail] of cases) {
    const { readings, events, rejects } = decode(payload)
    t.strictSame([readings, events, rejects.length], [[], [], 1], payload.slice(0, 60))
    t.match(rejects[0], { reason, detail }, payload.slice(0, 60))
    t.equal(Buffer.from(rejects[0]?.payload ?? []).toString(), payload)
  }
})

t.test('only a last level of just that name carries events', async (t) => {
  for (const topic of ['plant/maintenance/press', 'plant/premaintenance', 'plant/Maintenance', 'plant/maintenance/']) {
    t.equal(decode('{"value":1}', { topic }).readings[0]?.sensor.id, topic)
  }
  for (const topic of ['maintenance', '/maintenance', 'a/maintenance']) {
    t.equal(decode({ task: 'T', state: 'failed' }, { topic }).events[0]?.topic, topic)
  }
})
