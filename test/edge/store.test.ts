import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { Ack } from '../../shared/ack.ts'
import { createColumnBuilder, valueAt } from '../../shared/batch/columns.ts'
import { openBody, openEnvelope, hexOf } from '../../shared/batch/envelope.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import type { Reject, Value } from '../../shared/reading.ts'
import type { EpochSums } from '../../shared/status.ts'
import type { Group } from '../../edge/buffer/append.ts'
import type { OutgoingBatch } from '../../edge/buffer/outbox.ts'
import { openStore } from '../../edge/buffer/store.ts'
import type { Store, StoreOptions } from '../../edge/buffer/store.ts'

const MINUTE_MS = 60_000

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'millrace-store-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function startStore(t: Test, overrides: Partial<StoreOptions> = {}) {
  const clock = { nowMs: 0 }
  const options: StoreOptions = {
    path: join(folder(t), 'buffer.db'),
    gateway: 'plant-1',
    maxBytes: 64 * 2 ** 20,
    maxBatchBytes: 100_000,
    lingerMs: 200,
    dedupeWindowMs: 60 * MINUTE_MS,
    keepAckedMs: 60 * MINUTE_MS,
    synchronous: 'FULL',
    ...overrides
  }
  let store = openStore(options, () => clock.nowMs)
  finishCarrying(store)
  let closed = false
  const close = () => {
    if (!closed) store.close()
    closed = true
  }
  t.teardown(close)
  return {
    clock,
    options,
    get store() {
      return store
    },
    close,
    reopen() {
      close()
      store = openStore(options, () => clock.nowMs)
      closed = false
      finishCarrying(store)
    }
  }
}

function finishCarrying(store: Store): void {
  for (let turn = 0; turn < 1_000 && store.upkeep(); turn++);
}

type Row = [sensor: string, timestampUs: number, value: Value, quality?: number]

function group(rows: Row[], rest: Partial<Omit<Group, 'readings'>> = {}): Group {
  const builder = createColumnBuilder()
  for (const [id, timestampUs, value, quality] of rows) {
    builder.add({
      sensor: { id, type: null, unit: null },
      timestampUs,
      receivedUs: timestampUs + 500,
      quality: quality ?? 192,
      value
    })
  }
  return { readings: builder.finish(), rejects: [], events: [], filtered: 0, stampedUs: 0, packets: [], ...rest }
}

function manyRows(count: number, from = 0): Row[] {
  return Array.from({ length: count }, (_unused, index) => [
    `s${index % 7}`,
    1_700_000_000_000_000 + (from + index) * 1_000,
    (from + index) / 4
  ])
}

function reject(id: string, payload = new Uint8Array([1, 2])): Reject {
  return {
    id,
    reason: 'payload_unreadable',
    detail: 'x',
    topic: 'a',
    payload,
    payloadBytes: payload.length,
    payloadSha256: null,
    receivedUs: 1
  }
}

function noise(id: string): Reject {
  return reject(id, crypto.getRandomValues(new Uint8Array(60_000)))
}

function event(id: string, note: string | null = null): MaintenanceEvent {
  return {
    id,
    task: 't',
    state: 'pending',
    equipment: null,
    sensor: null,
    title: null,
    by: null,
    note,
    timestampUs: 1,
    receivedUs: 2,
    topic: 'a/maintenance'
  }
}

function sealAll(context: { store: Store; clock: { nowMs: number } }): OutgoingBatch[] {
  context.clock.nowMs += 2_000
  context.store.seal(true)
  return [...context.store.pending('readings', 0, 1_000), ...context.store.pending('maintenance', 0, 1_000)]
}

function ackOf(batch: OutgoingBatch, change: Partial<Ack> = {}): Ack {
  return {
    result: 'committed',
    reason: null,
    epoch: batch.epoch,
    lane: batch.lane,
    batch: batch.batch,
    first_seq: batch.firstSeq,
    last_seq: batch.lastSeq,
    digest: batch.digest,
    stored: batch.records,
    duplicates: 0,
    dead_letters: 0,
    ...change
  }
}

function sumsOf(store: Store, lane = 'readings', epoch = store.figures().epoch): EpochSums {
  const sums = store.figures().sums.find((entry) => entry.lane === lane && entry.epoch === epoch)
  if (sums === undefined) throw new Error('no sums')
  return sums
}

function balances(t: Test, store: Store): void {
  let pending = 0
  for (const sums of store.figures().sums) {
    t.equal(sums.received, sums.filtered + sums.duplicate + sums.accepted, `received of ${sums.lane}`)
    t.equal(sums.accepted, sums.pending + sums.evicted + sums.acknowledged, `accepted of ${sums.lane}`)
    t.equal(sums.acknowledged, sums.stored + sums.cloudDuplicates + sums.deadLettered, `acknowledged of ${sums.lane}`)
    pending += sums.pending
  }
  t.equal(store.figures().pendingRecords, pending, 'what waits is what the sums say')
}

function valuesOf(batch: OutgoingBatch): Value[] {
  const body = openBody(openEnvelope(batch.wire))
  if (body.kind !== 'readings') throw new Error('not readings')
  return Array.from({ length: body.readings.count }, (_unused, index) => valueAt(body.readings, index))
}

t.test('records come back out in order, numbered without gaps, chained', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(12_000))], false)
  const batches = sealAll(context)
  t.same(
    batches.map(({ batch, firstSeq, lastSeq }) => [batch, firstSeq, lastSeq]),
    [
      [1, 1, 5_000],
      [2, 5_001, 10_000],
      [3, 10_001, 12_000]
    ]
  )
  t.same(
    batches.flatMap(valuesOf),
    manyRows(12_000).map(([, , value]) => value)
  )
  let predecessor = '00'.repeat(32)
  for (const batch of batches) {
    t.equal(hexOf(openEnvelope(batch.wire).predecessor), predecessor)
    predecessor = batch.digest
  }
  balances(t, context.store)
})

t.test('the same key and value again is a duplicate, counted, also after a restart', async (t) => {
  const context = startStore(t)
  context.store.commit([group([['a', 1, 21.5]])], false)
  context.store.commit(
    [
      group([
        ['a', 1, 21.5],
        ['b', 1, 21.5]
      ])
    ],
    false
  )
  context.reopen()
  context.store.commit([group([['a', 1, 21.5]])], false)
  t.match(sumsOf(context.store), { received: 4, duplicate: 2, accepted: 2, rejected: 0 })
  balances(t, context.store)
})

t.test('the same key with another value or quality is a conflict, kept as a reject', async (t) => {
  const context = startStore(t)
  context.store.commit(
    [
      group([
        ['a', 1, 21.5],
        ['a', 1, 22],
        ['a', 1, 21.5, 64]
      ])
    ],
    false
  )
  t.match(sumsOf(context.store), { received: 3, duplicate: 0, accepted: 3, rejected: 2 })
  const [batch] = sealAll(context)
  const body = batch === undefined ? null : openBody(openEnvelope(batch.wire))
  t.match(body, {
    kind: 'readings',
    rejects: [
      { reason: 'conflict', position: 1 },
      { reason: 'conflict', position: 2 }
    ]
  })
  t.match(
    body?.kind === 'readings' && Buffer.from(body.rejects[0]?.payload ?? []).toString(),
    '{"sensor_id":"a","timestamp_us":1,"value":22,"quality":192}'
  )
})

t.test('rejects and readings share the seqs, wherever they stand', async (t) => {
  const context = startStore(t)
  context.store.commit(
    [group([], { rejects: [reject('r1')] }), group(manyRows(2)), group([], { rejects: [reject('r2'), reject('r3')] })],
    false
  )
  const [batch] = sealAll(context)
  t.match(batch, { firstSeq: 1, lastSeq: 5, records: 5 })
  const body = batch === undefined ? null : openBody(openEnvelope(batch.wire))
  t.same(body?.kind === 'readings' && body.rejects.map(({ id, position }) => [id, position]), [
    ['r1', 0],
    ['r2', 3],
    ['r3', 4]
  ])
})

t.test('large payloads split batches below the limit', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(10), { rejects: ['a', 'b', 'c', 'd'].map(noise) })], false)
  const batches = sealAll(context)
  t.equal(batches.length, 4)
  t.ok(
    batches.every(({ wire }) => wire.length < 100_000),
    'each below maxBatchBytes'
  )
  t.equal(batches.at(-1)?.lastSeq, 14)
})

t.test('events have a lane of their own, sealed at once, and a key of their own', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(3), { events: [event('e1'), event('e2')] })], true)
  t.match(context.store.pending('maintenance', 0, 9), [{ lane: 'maintenance', batch: 1, firstSeq: 1, lastSeq: 2 }])
  t.same(context.store.pending('readings', 0, 9), [], 'readings linger')
  context.store.commit(
    [group([], { events: [event('e1'), { ...event('e1'), receivedUs: 99 }, event('e2', 'other')] })],
    true
  )
  t.match(sumsOf(context.store, 'maintenance'), { received: 4, duplicate: 2, accepted: 2 })
  t.match(sumsOf(context.store, 'readings'), { received: 4, accepted: 4, rejected: 1 })
  balances(t, context.store)
})

t.test('sealing lingers: briefly under load, longer when idle, until full while nothing can be sent', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(100))], true)
  t.equal(context.store.sealDueInMs(true), 200)
  context.clock.nowMs = 199
  t.notOk(context.store.seal(true))
  context.clock.nowMs = 200
  t.notOk(context.store.seal(false), 'nothing can be sent')
  t.ok(context.store.seal(true))
  context.store.commit([group(manyRows(5, 1_000))], true)
  context.clock.nowMs = 2_199
  t.notOk(context.store.seal(true), 'few records')
  context.clock.nowMs = 2_200
  t.ok(context.store.seal(true))
  t.ok(context.store.commit([group(manyRows(5_000, 2_000))], false), 'full')
})

t.test('only an answer with the digest frees a batch, and its counts move with it', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(10))], false)
  const [batch] = sealAll(context)
  if (batch === undefined) throw new Error('nothing sealed')
  const wrong = [
    ackOf(batch, { digest: 'ab'.repeat(32) }),
    ackOf(batch, { batch: 2 }),
    ackOf(batch, { epoch: 'other' }),
    ackOf(batch, { result: 'refused' }),
    ackOf(batch, { stored: 9 }),
    ackOf(batch, { stored: 11, duplicates: -1 })
  ]
  t.same(
    context.store.acknowledge(wrong),
    wrong.map(() => false)
  )
  t.equal(context.store.figures().ignoredAcks, wrong.length)
  t.equal(context.store.pending('readings', 0, 9).length, 1)
  t.same(context.store.acknowledge([ackOf(batch, { stored: 7, duplicates: 2, dead_letters: 1 }), ackOf(batch)]), [
    true,
    false
  ])
  t.match(sumsOf(context.store), { acknowledged: 10, pending: 0, stored: 7, cloudDuplicates: 2, deadLettered: 1 })
  context.reopen()
  t.same(context.store.pending('readings', 0, 9), [])
  balances(t, context.store)
})

t.test('a restart keeps sums, numbers, chain and what waits', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(6_000))], false)
  const { usedBytes: _used, checked: _checked, ...before } = context.store.figures()
  context.reopen()
  t.match(context.store.figures(), before)
  context.store.commit([group(manyRows(10, 6_000))], false)
  t.same(
    sealAll(context).map(({ batch, lastSeq }) => [batch, lastSeq]),
    [
      [1, 5_000],
      [2, 6_010]
    ]
  )
})

t.test(
  'rows go after the dedupe window, acknowledged batches after their time, the clock of the wall notwithstanding',
  async (t) => {
    const context = startStore(t, { dedupeWindowMs: 10 * MINUTE_MS, keepAckedMs: 5 * MINUTE_MS })
    context.store.commit([group(manyRows(100))], false)
    const [batch] = sealAll(context)
    if (batch === undefined) throw new Error('nothing sealed')
    context.store.acknowledge([ackOf(batch)])
    context.clock.nowMs += 9 * MINUTE_MS
    context.store.commit([group(manyRows(1))], false)
    t.equal(sumsOf(context.store).duplicate, 1, 'still known')
    context.clock.nowMs += 12 * MINUTE_MS
    context.store.commit([group(manyRows(1, 500))], false)
    finishCarrying(context.store)
    context.store.commit([group(manyRows(1))], false)
    t.equal(sumsOf(context.store).duplicate, 1, 'forgotten: the cloud tells')
    balances(t, context.store)
  }
)

t.test('unsealed rows and unacknowledged batches stay, however old', async (t) => {
  const context = startStore(t, { dedupeWindowMs: MINUTE_MS, keepAckedMs: 0 })
  context.store.commit([group(manyRows(5_010))], false)
  context.clock.nowMs += 100 * MINUTE_MS
  finishCarrying(context.store)
  t.equal(context.store.figures().pendingRecords, 5_010)
  t.equal(
    sealAll(context).reduce((sum, { records }) => sum + records, 0),
    5_010
  )
})

t.test('at the cap nothing is taken, in words; acknowledgements make room again', async (t) => {
  const context = startStore(t, { maxBytes: 6 * 2 ** 20 })
  let taken = 0
  let full: unknown = null
  while (full === null && taken < 1_000) {
    try {
      context.store.commit([group([], { rejects: [noise(`r${taken}`)] })], false)
      taken += 1
    } catch (error) {
      full = error
    }
  }
  t.match(full, {
    code: 'buffer_full',
    message: /^buffer is full: 0\.0\d of 0\.01 GiB$/,
    hint: /EDGE_BUFFER_MAX_BYTES/
  })
  t.equal(context.store.figures().full, true)
  t.equal(sumsOf(context.store).received, taken, 'nothing of the refused group was counted')
  context.store.acknowledge(sealAll(context).map((batch) => ackOf(batch)))
  context.store.commit([group([], { rejects: [noise('last')] })], false)
  t.equal(context.store.figures().full, false)
  balances(t, context.store)
})

t.test('a new epoch seals all that waits again, keeps the seqs, and moves the sums', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(5_000), { rejects: [reject('r')], events: [event('e1')] })], true)
  const [first] = context.store.pending('readings', 0, 1)
  if (first === undefined) throw new Error('nothing sealed')
  context.store.commit([group(manyRows(7_000, 5_000))], false)
  context.store.acknowledge([ackOf(first)])
  const old = context.store.figures().epoch
  const epoch = context.store.beginEpoch()
  t.same(context.store.pending('readings', 0, 9), [], 'not before all is carried over')
  context.store.commit([group(manyRows(3, 12_000))], false)
  finishCarrying(context.store)
  const batches = sealAll(context)
  t.not(epoch, old)
  t.ok(batches.every((batch) => batch.epoch === epoch && openEnvelope(batch.wire).header.epoch === epoch))
  t.same(
    batches.map(({ lane, batch, firstSeq, lastSeq }) => [lane, batch, firstSeq, lastSeq]),
    [
      ['readings', 1, 5_001, 10_000],
      ['readings', 2, 10_001, 12_004],
      ['maintenance', 1, 1, 1]
    ]
  )
  t.match(sumsOf(context.store, 'readings', old), {
    received: 5_000,
    accepted: 5_000,
    acknowledged: 5_000,
    pending: 0,
    rejected: 0
  })
  t.match(sumsOf(context.store, 'readings', epoch), { accepted: 7_004, pending: 7_004, rejected: 1 })
  balances(t, context.store)
  t.same(context.store.acknowledge([ackOf({ ...first, batch: 2 })]), [false], 'an answer to the old epoch')
  context.reopen()
  balances(t, context.store)
})

t.test('a copy of the buffer is a buffer: same batches, same digests', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(10))], false)
  sealAll(context)
  const path = join(folder(t), 'clone.db')
  context.close()
  copyFileSync(context.options.path, path)
  const clone = openStore({ ...context.options, path }, () => 0)
  t.teardown(() => clone.close())
  finishCarrying(clone)
  t.equal(clone.pending('readings', 0, 9).length, 1)
})

t.test('QoS 2 packets last until they are released', async (t) => {
  const context = startStore(t)
  context.store.commit(
    [
      group([], {
        packets: [
          { client: 'a', packet: 1, digest: 'x' },
          { client: 'a', packet: 2, digest: 'y' },
          { client: 'b', packet: 1, digest: 'x' }
        ]
      })
    ],
    false
  )
  context.reopen()
  t.equal(context.store.packets().length, 3)
  context.store.releasePackets([{ client: 'a', packet: 1 }], ['b'])
  context.reopen()
  t.same(context.store.packets(), [{ client: 'a', packet: 2, digest: 'y' }])
})

t.test('a second process is refused the file', async (t) => {
  const context = startStore(t)
  t.throws(() => openStore(context.options, () => 0), { code: 'buffer_in_use' })
})

t.test('a damaged tail is found at the opening, other damage by the check beside collection', async (t) => {
  const context = startStore(t)
  const noisy: Row[] = manyRows(20_000).map(([sensor, timestampUs]) => [sensor, timestampUs, Math.random()])
  context.store.commit([group(noisy)], false)
  const batches = sealAll(context)
  t.equal(batches.length, 4)
  context.close()
  damage(context.options.path, batches[1])
  const store = openStore(context.options, () => 0)
  finishCarrying(store)
  t.match(store.figures(), { checked: 4, damaged: 1 })
  store.close()
  const whole = readFileSync(context.options.path)
  damage(context.options.path, batches[3])
  t.throws(() => openStore(context.options, () => 0), { code: 'buffer_broken', message: /batch 4 of readings/ })
  writeFileSync(context.options.path, whole)
  context.reopen()
})

/** Flips bits of a batch in the file. */
function damage(path: string, batch: OutgoingBatch | undefined): void {
  const file = readFileSync(path)
  const wire = Buffer.from(batch?.wire ?? [])
  // The file holds it in pages: some stretch of 100 bytes lies in one.
  const places = Array.from({ length: 20 }, (_unused, index) =>
    file.indexOf(wire.subarray(2_000 + index * 100, 2_100 + index * 100))
  )
  const at = places.find((place) => place >= 0)
  if (at === undefined) throw new Error('the batch is not in the file')
  for (let byte = at; byte < at + 50; byte++) file[byte] = (file[byte] ?? 0) ^ 0x55
  writeFileSync(path, file)
}

t.test('a file of another program, a newer format and a cut file are told apart', async (t) => {
  const path = join(folder(t), 'buffer.db')
  const { default: Database } = await import('better-sqlite3')
  const other = new Database(path)
  other.exec('CREATE TABLE t (x)')
  other.pragma('user_version = 7')
  other.close()
  const options = { ...startStore(t).options, path }
  t.throws(() => openStore(options, () => 0), { code: 'buffer_foreign', message: /another program/ })
})

t.test('events are sealed though nothing can be sent: they never wait behind readings', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(3), { events: [event('e1')] })], false)
  t.match(context.store.pending('maintenance', 0, 9), [{ batch: 1 }])
})

t.test('a damaged batch doesn’t stop a new epoch: it stays, counted as pending and damaged', async (t) => {
  const context = startStore(t)
  const noisy: Row[] = manyRows(15_000).map(([sensor, timestampUs]) => [sensor, timestampUs, Math.random()])
  context.store.commit([group(noisy)], false)
  const batches = sealAll(context)
  const old = context.store.figures().epoch
  context.close()
  damage(context.options.path, batches[0])
  context.reopen()
  const epoch = context.store.beginEpoch()
  finishCarrying(context.store)
  t.same(
    context.store.pending('readings', 0, 9).map((batch) => [batch.epoch, batch.batch, batch.firstSeq]),
    [
      [epoch, 1, 5_001],
      [epoch, 2, 10_001]
    ]
  )
  t.ok(context.store.figures().damaged > 0)
  t.match(sumsOf(context.store, 'readings', old), { accepted: 5_000, pending: 5_000 })
  balances(t, context.store)
  context.reopen()
  t.same(context.store.pending('readings', 0, 9).length, 2)
  balances(t, context.store)
})

t.test('the highest arrival stamp outlives restarts and epochs', async (t) => {
  const context = startStore(t)
  context.store.commit([group(manyRows(2), { stampedUs: 77 }), group(manyRows(1, 9))], false)
  context.reopen()
  t.equal(context.store.lastStampUs, 77)
  context.store.beginEpoch()
  context.reopen()
  t.equal(context.store.lastStampUs, 77)
})
