import t from 'tap'
import type { OutgoingBatch } from '../../edge/buffer/outbox.ts'
import { createFlight } from '../../edge/uplink/flight.ts'

function start(maxWindow = 8, random = 1, inOrder = false) {
  const clock = { nowMs: 0 }
  return { clock, flight: createFlight({ maxWindow, inOrder, clockMs: () => clock.nowMs, random: () => random }) }
}

function batch(id: number): OutgoingBatch {
  const wire = new Uint8Array([id])
  return { id, epoch: 'e', lane: 'readings', batch: id, firstSeq: id, lastSeq: id, records: 1, digest: `d${id}`, wire }
}

const ids = (batches: OutgoingBatch[]) => batches.map(({ id }) => id)

t.test('a batch is in flight from its sending to its answer, and takes room meanwhile', async (t) => {
  const { flight } = start(2)
  flight.sent(batch(1))
  flight.sent(batch(2))
  t.equal(flight.room(), 0)
  t.equal(flight.newestId(), 2)
  t.same(flight.find('d1'), batch(1))
  flight.answered('d1')
  flight.answered('unknown')
  t.equal(flight.find('d1'), null)
  t.equal(flight.room(), 1)
  t.equal(flight.newestId(), 2)
})

t.test(
  'a late batch is sent again, the same bytes, and then more and more rarely, at least each half minute',
  async (t) => {
    const { clock, flight } = start()
    flight.sent(batch(1))
    clock.nowMs = 4_999
    t.same(flight.takeLate(), [])
    const sentAtMs: number[] = []
    for (; clock.nowMs < 200_000; clock.nowMs += 250) {
      const late = flight.takeLate()
      if (late.length > 0) sentAtMs.push(clock.nowMs)
      for (const again of late) t.same(again, batch(1))
    }
    const waits = sentAtMs.slice(1).map((at, index) => at - (sentAtMs[index] ?? 0))
    t.ok(
      waits.every((wait, index) => wait >= (waits[index - 1] ?? 0)),
      String(waits)
    )
    t.ok(waits.every((wait) => wait <= 30_250))
    t.equal(flight.resends(), sentAtMs.length)
  }
)

t.test('the window halves when an answer is late and grows again with answers', async (t) => {
  const { clock, flight } = start(8)
  for (let id = 1; id <= 8; id++) flight.sent(batch(id))
  clock.nowMs = 6_000
  t.equal(flight.takeLate().length, 8)
  for (let id = 1; id <= 8; id++) flight.answered(`d${id}`)
  const after = flight.room()
  t.ok(after >= 4 && after < 8, `room ${after}`)
  for (let id = 9; id < 60; id++) {
    flight.sent(batch(id))
    flight.answered(`d${id}`)
  }
  t.equal(flight.room(), 8)
})

t.test('the time-out follows the round trip of a slow link; an answer after a resend is no measure', async (t) => {
  const { clock, flight } = start()
  for (let id = 1; id < 100; id++) {
    flight.sent(batch(id))
    clock.nowMs += 4_000
    flight.answered(`d${id}`)
  }
  flight.sent(batch(100))
  clock.nowMs += 11_000
  t.same(flight.takeLate(), [])
  clock.nowMs += 2_000
  t.same(ids(flight.takeLate()), [100])
  clock.nowMs += 1
  flight.answered('d100')
  flight.sent(batch(101))
  clock.nowMs += 11_000
  t.same(flight.takeLate(), [], 'one millisecond after a resend was not taken for the round trip')
})

t.test('after a reconnect all in flight are sent again, oldest first', async (t) => {
  const { flight } = start()
  for (const id of [1, 2, 3]) flight.sent(batch(id))
  flight.answered('d2')
  t.same(ids(flight.takeAll()), [1, 3])
  flight.clear()
  t.same(flight.takeAll(), [])
  t.equal(flight.newestId(), 0)
})

t.test('a batch that never gets an answer takes no other’s place, except where order counts', async (t) => {
  for (const inOrder of [false, true]) {
    const { clock, flight } = start(2, 1, inOrder)
    flight.sent(batch(1))
    for (; clock.nowMs < 3_600_000; clock.nowMs += 1_000) flight.takeLate()
    t.equal(flight.room() > 0, !inOrder)
  }
  const { clock, flight } = start(2)
  for (let id = 1; flight.room() > 0 && id < 100; id++) {
    flight.sent(batch(id))
    for (let tick = 0; tick < 100; tick++, clock.nowMs += 1_000) flight.takeLate()
  }
  t.equal(flight.inFlight(), 4, 'but even then not without limit')
})
