// One transaction for one big batch or several small ones: ledger rows, sensors, readings, events, dead letters, lanes.
//
// Guarantees: all of it is committed or nothing; each batch counts once, by its ledger row, which comes first; each of its
// records is stored, a duplicate, a dead letter or evicted, and the counts say which.
import { createHash } from 'node:crypto'
import { sameBytes } from '../../shared/batch/envelope.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import type { Client } from '../database.ts'
import { applyEvents } from '../maintenance/apply.ts'
import { lockGateways, takeEvents } from '../maintenance/inbox.ts'
import type { Incoming } from '../maintenance/inbox.ts'
import type { Outcome } from './arrival.ts'
import { refused as refusedOutcome } from './arrival.ts'
import { encodeRows } from './copy.ts'
import { insertDeadLetters, letterOfBatch, letterOfRecord, letterOfReject } from './dead-letters.ts'
import type { DeadLetter } from './dead-letters.ts'
import { insertGap } from './gaps.ts'
import { addToLanes, raiseAlarms } from './lanes.ts'
import { claim, correct } from './ledger.ts'
import type { Found } from './ledger.ts'
import { incomingOf, seqOfReading } from './prepare.ts'
import type { Prepared, PreparedBatch } from './prepare.ts'
import type { Registry, Seen } from './registry.ts'
import { batchOfRow, orderRows, rowJson } from './rows.ts'
import type { RowRefusal } from './rows.ts'
import type { ReadingStore } from './store.ts'
import { sameTally } from './tally.ts'
import type { Tally } from './tally.ts'

export type Transaction = {
  /** By place in the group. */
  outcomes: Map<number, Outcome>
  /** What of the sensors' owners may be remembered after the COMMIT. */
  seen: Seen
  /** Records, of the batches that are new. */
  total: Tally
  replays: number
  forks: number
}

export type TransactOptions = {
  prepared: Prepared
  registry: Registry
  store: ReadingStore
  /** The batches failed again and again while others succeeded. */
  stubborn: boolean
  /** The COMMIT of an earlier try was lost: a batch that is found was ours. */
  uncertain: boolean
  nowMs: number
  /** Runs while the server works. */
  meanwhile: () => void
}

/** Everything between BEGIN and COMMIT. @throws the server's error, or TableFault; the transaction is then rolled back */
export async function transact(client: Client, options: TransactOptions): Promise<Transaction> {
  const { prepared, nowMs } = options
  const transaction: Transaction = {
    outcomes: new Map(),
    seen: new Map(),
    total: { stored: 0, duplicates: 0, deadLettered: 0, evicted: 0 },
    replays: 0,
    forks: 0
  }
  const letters: DeadLetter[] = prepared.unreadable.map(letterOfUnreadable)
  for (const { place } of prepared.unreadable) transaction.outcomes.set(place, refusedOutcome('unreadable'))
  const { fresh, found } =
    prepared.batches.length === 0 ? { fresh: [], found: [] } : await claim(client, prepared.batches, expected)
  const forks = judgeFound(found, options, transaction)
  const tallies = new Map(fresh.map((batch) => [batch, emptyTally()]))
  if (fresh.some((batch) => batch.events.length > 0)) await lockGateways(client, gatewaysOf(fresh))
  const rejects = new Map<DeadLetter, Tally>()
  letters.push(...(await storeReadings(client, options, tallies, transaction, rejects)))
  letters.push(...(await storeEvents(client, options, tallies, rejects)))
  for (const [batch, tally] of tallies) letters.push(...(await storeRest(client, batch, tally, rejects)))
  if (letters.length > 0) {
    for (const letter of await insertDeadLetters(client, letters)) countAgain(rejects.get(letter))
  }
  if (fresh.length > 0) await finish(client, fresh, tallies, nowMs)
  if (forks.length > 0) await raiseAlarms(client, forks, nowMs)
  for (const [batch, tally] of tallies) {
    transaction.outcomes.set(batch.place, outcomeOf('committed', tally))
    transaction.total.stored += tally.stored
    transaction.total.duplicates += tally.duplicates
    transaction.total.deadLettered += tally.deadLettered
    transaction.total.evicted += tally.evicted
  }
  answerRepeats(prepared, transaction)
  return transaction
}

function emptyTally(): Tally {
  return { stored: 0, duplicates: 0, deadLettered: 0, evicted: 0 }
}

/** The counts as they are when nothing unforeseen happens, so that the ledger row is written once. */
function expected(batch: PreparedBatch): Tally {
  const { records } = batch.header
  if (batch.kind === 'tombstone') return { ...emptyTally(), evicted: records }
  if (batch.kind === 'undecodable') return { ...emptyTally(), deadLettered: records }
  const stored = batch.header.lane === 'maintenance' ? batch.events.length - batch.condemned.size : batch.storable
  return { ...emptyTally(), stored, deadLettered: records - stored }
}

function outcomeOf(result: 'committed' | 'replay', tally: Tally): Outcome {
  return { result, reason: null, stored: tally.stored, duplicates: tally.duplicates, deadLetters: tally.deadLettered }
}

function gatewaysOf(batches: readonly PreparedBatch[]): string[] {
  return [...new Set(batches.map(({ header }) => header.gateway))]
}

/** The same digest is a replay, another one a fork. Returns the forks. */
function judgeFound(
  found: readonly { batch: PreparedBatch; entry: Found }[],
  { uncertain }: TransactOptions,
  transaction: Transaction
): PreparedBatch[] {
  const forks: PreparedBatch[] = []
  for (const { batch, entry } of found) {
    if (sameBytes(batch.digest, entry.digest)) {
      transaction.outcomes.set(batch.place, outcomeOf(uncertain ? 'committed' : 'replay', entry.tally))
      transaction.replays += 1
    } else {
      transaction.outcomes.set(batch.place, refusedOutcome('fork'))
      transaction.forks += 1
      forks.push(batch)
    }
  }
  return forks
}

/** The same batch a second time in the group is answered as the first was. */
function answerRepeats(prepared: Prepared, transaction: Transaction): void {
  for (const { place, first, same } of prepared.repeats) {
    const outcome = transaction.outcomes.get(first)
    if (outcome === undefined) continue
    if (!same) {
      transaction.outcomes.set(place, refusedOutcome('fork'))
      transaction.forks += 1
    } else {
      transaction.outcomes.set(place, outcome.result === 'committed' ? { ...outcome, result: 'replay' } : outcome)
      transaction.replays += 1
    }
  }
}

async function storeReadings(
  client: Client,
  options: TransactOptions,
  tallies: ReadonlyMap<PreparedBatch, Tally>,
  transaction: Transaction,
  rejects: Map<DeadLetter, Tally>
): Promise<DeadLetter[]> {
  const { prepared, registry, store, stubborn, meanwhile } = options
  const { rows, batches } = prepared
  if (rows.count === 0 || tallies.size === 0) return []
  const ours = batches.map((batch) => tallies.has(batch))
  const all = ours.every((own) => own)
  const isOurs = (row: number): boolean => all || ours[batchOfRow(rows, row)] === true
  const gateways = new Set(gatewaysOf([...tallies.keys()]))
  const sensors = rows.sensors.filter((sensor) => gateways.has(sensor.gateway))
  transaction.seen = await registry.settle(client, sensors, stubborn)
  const refused = new Map<number, RowRefusal>()
  for (const [row, refusal] of prepared.refused) if (isOurs(row)) refused.set(row, refusal)
  let { order, copy } = prepared
  if (!all || sensors.some((sensor) => sensor.refusal !== null)) {
    for (const row of order) {
      const refusal = rows.sensors[rows.sensor[row] ?? 0]?.refusal
      if (refusal && isOurs(row)) refused.set(row, refusal)
    }
    order = orderRows(rows, (row) => isOurs(row) && !refused.has(row))
    copy = encodeRows(rows, order, { ordinals: false })
  }
  const stored = await store.store(client, { rows, order, copy, gateways, stubborn, meanwhile })
  for (const [row, refusal] of stored.refused) refused.set(row, refusal)
  for (const [index, batch] of batches.entries()) {
    const tally = tallies.get(batch)
    if (tally !== undefined) tally.stored += (rows.starts[index + 1] ?? 0) - (rows.starts[index] ?? 0)
  }
  for (const row of stored.duplicates) {
    const tally = tallyOfRow(row)
    tally.stored -= 1
    tally.duplicates += 1
  }
  const letters: DeadLetter[] = []
  for (const [row, refusal] of refused) {
    const index = batchOfRow(rows, row)
    const batch = batches[index]
    if (batch === undefined) continue
    const tally = tallyOfRow(row)
    tally.stored -= 1
    tally.deadLettered += 1
    const seq = seqOfReading(batch, row - (rows.starts[index] ?? 0))
    const record = { payload: rowJson(rows, row), receivedUs: rows.receivedUs[row] ?? 0, topic: null }
    const letter = letterOfRecord(batch, seq, refusal, record)
    rejects.set(letter, tally)
    letters.push(letter)
  }
  return letters

  function tallyOfRow(row: number): Tally {
    const batch = batches[batchOfRow(rows, row)]
    const tally = batch === undefined ? undefined : tallies.get(batch)
    if (tally === undefined) throw new Error(`row ${row} is of no batch of the transaction`)
    return tally
  }
}

async function storeEvents(
  client: Client,
  options: TransactOptions,
  tallies: ReadonlyMap<PreparedBatch, Tally>,
  rejects: Map<DeadLetter, Tally>
): Promise<DeadLetter[]> {
  const owners = new Map<Incoming, { batch: PreparedBatch; tally: Tally }>()
  const letters: DeadLetter[] = []
  for (const [batch, tally] of tallies) {
    for (const [place, incoming] of incomingOf(batch).entries()) {
      const refusal = batch.condemned.get(place)
      if (refusal === undefined) {
        tally.stored += 1
        owners.set(incoming, { batch, tally })
      } else {
        tally.deadLettered += 1
        letters.push(letterOfRecord(batch, incoming.seq, refusal, recordOf(incoming.event)))
      }
    }
  }
  if (owners.size === 0) return letters
  const { duplicates, refused } = await takeEvents(client, [...owners.keys()], options.stubborn)
  for (const incoming of duplicates) {
    const tally = owners.get(incoming)?.tally
    if (tally === undefined) continue
    tally.stored -= 1
    tally.duplicates += 1
  }
  for (const { incoming, refusal } of refused) {
    const owner = owners.get(incoming)
    if (owner === undefined) continue
    owner.tally.stored -= 1
    owner.tally.deadLettered += 1
    const letter = letterOfRecord(owner.batch, incoming.seq, refusal, recordOf(incoming.event))
    rejects.set(letter, owner.tally)
    letters.push(letter)
  }
  return letters
}

function recordOf(event: MaintenanceEvent): { payload: Uint8Array; receivedUs: number; topic: string } {
  return { payload: Buffer.from(JSON.stringify(event)), receivedUs: event.receivedUs, topic: event.topic }
}

/** What is neither reading nor event: rejects of the edge, tombstones, a content that can't be opened. */
async function storeRest(
  client: Client,
  batch: PreparedBatch,
  tally: Tally,
  rejects: Map<DeadLetter, Tally>
): Promise<DeadLetter[]> {
  if (batch.kind === 'tombstone') {
    tally.evicted = batch.header.records
    await insertGap(client, batch)
    return []
  }
  if (batch.kind === 'undecodable') {
    tally.deadLettered = batch.header.records
    return [letterOfBatch(batch)]
  }
  tally.deadLettered += batch.rejects.length
  return batch.rejects.map((reject) => {
    const letter = letterOfReject(batch, reject)
    rejects.set(letter, tally)
    return letter
  })
}

/** A reject whose dead letter is there already came before: a duplicate. */
function countAgain(tally: Tally | undefined): void {
  if (tally === undefined) return
  tally.deadLettered -= 1
  tally.duplicates += 1
}

async function finish(
  client: Client,
  fresh: readonly PreparedBatch[],
  tallies: ReadonlyMap<PreparedBatch, Tally>,
  nowMs: number
): Promise<void> {
  const counted = fresh.map((batch) => ({ batch, tally: tallies.get(batch) ?? emptyTally() }))
  const wrong = counted.filter(({ batch, tally }) => !sameTally(tally, expected(batch)))
  if (wrong.length > 0) await correct(client, wrong)
  const states = await addToLanes(client, counted, nowMs)
  for (const { gateway, epoch, lane, denseBatch } of states) {
    if (lane === 'maintenance') await applyEvents(client, gateway, epoch, denseBatch)
  }
}

function letterOfUnreadable(item: { gateway: string; wire: Uint8Array; detail: string }): DeadLetter {
  return {
    id: `${item.gateway}/${createHash('sha256').update(item.wire).digest('hex')}`,
    gateway: item.gateway,
    epoch: null,
    lane: null,
    batch: null,
    seq: null,
    source: 'bridge',
    reason: 'batch_unreadable',
    detail: item.detail,
    sqlstate: null,
    topic: null,
    payload: item.wire,
    payloadBytes: item.wire.length,
    payloadSha256: null,
    receivedUs: null
  }
}
