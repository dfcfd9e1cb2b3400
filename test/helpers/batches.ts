// Chains of sealed batches, as an edge would send them.
import type { Arrived } from '../../cloud/ingest/arrival.ts'
import { createColumnBuilder } from '../../shared/batch/columns.ts'
import type { PlacedReject, Tombstone } from '../../shared/batch/body.ts'
import { hexOf, NO_PREDECESSOR, openEnvelope, sealBatch } from '../../shared/batch/envelope.ts'
import type { BatchHeader, Envelope, SealedBatch } from '../../shared/batch/envelope.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import type { Value } from '../../shared/reading.ts'
import { QUALITY_GOOD } from '../../shared/reading.ts'

/** A reading as tests write it; what is left out is ordinary. */
export type TestReading = {
  sensor: string
  timestampUs: number
  value?: Value
  quality?: number
  type?: string | null
  unit?: string | null
  receivedUs?: number
}

/** A sealed batch with its facts. */
export type TestBatch = SealedBatch & {
  header: Omit<BatchHeader, 'bodyBytes' | 'kind'>
  predecessor: Uint8Array
  arrived: Arrived
}

export type Chain = {
  readonly gateway: string
  readonly epoch: string
  /** Rejects stand after the readings unless they name another place. */
  readings(readings: readonly TestReading[], rejects?: readonly Partial<PlacedReject>[]): TestBatch
  events(events: readonly (Partial<MaintenanceEvent> & { id: string; task: string })[]): TestBatch
  /** The tombstone of a batch of this chain. */
  tombstone(evicted: TestBatch, facts?: Partial<Tombstone>): TestBatch
}

/** 32 hex digits from a short name. */
export function epochOf(name: string): string {
  return Buffer.from(name).toString('hex').padEnd(32, '0').slice(0, 32)
}

/** An instant within every test's bounds: 2026-01-15T00:00:00Z. */
export const BASE_MS = Date.UTC(2026, 0, 15)
export const BASE_US = BASE_MS * 1_000

export function createChain(gateway: string, epoch = epochOf(gateway)): Chain {
  const lanes = {
    readings: { batch: 0, seq: 0, digest: NO_PREDECESSOR },
    maintenance: { batch: 0, seq: 0, digest: NO_PREDECESSOR }
  }

  function seal(lane: 'readings' | 'maintenance', records: number, body: Parameters<typeof sealBatch>[1]): TestBatch {
    const state = lanes[lane]
    state.batch += 1
    const header = {
      gateway,
      epoch,
      lane,
      batch: state.batch,
      firstSeq: state.seq + 1,
      lastSeq: state.seq + records,
      records
    }
    state.seq += records
    const predecessor = state.digest
    const sealed = sealBatch(header, body, predecessor)
    state.digest = sealed.digest
    return { ...sealed, header, predecessor, arrived: arrivedOf(sealed.wire) }
  }

  return {
    gateway,
    epoch,
    readings(readings, rejects = []) {
      const columns = columnsOf(readings)
      const placed = rejects.map((reject, index) => ({ ...rejectAt(readings.length + index), ...reject }))
      return seal('readings', readings.length + rejects.length, {
        kind: 'readings',
        readings: columns,
        rejects: placed
      })
    },
    events(events) {
      return seal('maintenance', events.length, { kind: 'maintenance', events: events.map(eventOf) })
    },
    tombstone(evicted, facts = {}) {
      const tombstone: Tombstone = {
        id: `gap-${evicted.header.gateway}-${evicted.header.batch}`,
        digest: hexOf(evicted.digest),
        records: evicted.header.records,
        sensors: ['s1'],
        fromUs: BASE_US,
        toUs: BASE_US + 1,
        ...facts
      }
      const sealed = sealBatch(evicted.header, { kind: 'tombstone', tombstone }, evicted.predecessor)
      return { ...sealed, header: evicted.header, predecessor: evicted.predecessor, arrived: arrivedOf(sealed.wire) }
    }
  }
}

export function columnsOf(
  readings: readonly TestReading[]
): ReturnType<ReturnType<typeof createColumnBuilder>['finish']> {
  const builder = createColumnBuilder(readings.length)
  for (const reading of readings) {
    builder.add({
      sensor: { id: reading.sensor, type: reading.type ?? null, unit: reading.unit ?? null },
      timestampUs: reading.timestampUs,
      receivedUs: reading.receivedUs ?? BASE_US,
      quality: reading.quality ?? QUALITY_GOOD,
      value: reading.value === undefined ? 1 : reading.value
    })
  }
  return builder.finish()
}

export function arrivedOf(wire: Uint8Array): Arrived {
  return { kind: 'batch', envelope: openEnvelope(wire), wire }
}

/** The batch with another content behind the same header: proven by its digest, but not to be opened. */
export function withContent(batch: TestBatch, content: Uint8Array): Arrived {
  const envelope: Envelope = { ...openEnvelope(batch.wire), content }
  return { kind: 'batch', envelope, wire: batch.wire }
}

/** The batch, which the program can't open as long as `broken` says so: a fault of ours, whatever it be. */
export function stumblingOver(batch: TestBatch, broken: () => boolean): Arrived {
  const envelope = openEnvelope(batch.wire)
  const { kind } = envelope.header
  const header = {
    ...envelope.header,
    get kind(): BatchHeader['kind'] {
      if (broken()) throw new TypeError('a fault of the program')
      return kind
    }
  }
  return { kind: 'batch', envelope: { ...envelope, header }, wire: batch.wire }
}

/** `count` readings of `sensors` sensors in turn, one a second. */
export function ramp(
  count: number,
  options: { sensors?: number; fromUs?: number; prefix?: string } = {}
): TestReading[] {
  const { sensors = 10, fromUs = BASE_US, prefix = 's' } = options
  return Array.from({ length: count }, (_, index) => ({
    sensor: `${prefix}${index % sensors}`,
    timestampUs: fromUs + Math.floor(index / sensors) * 1_000_000,
    value: index / 4
  }))
}

function rejectAt(position: number): PlacedReject {
  return {
    position,
    id: `00000000-0000-4000-8000-${String(position).padStart(12, '0')}`,
    reason: 'payload_unreadable',
    detail: 'not JSON',
    topic: 'plant/x',
    payload: Buffer.from('{{'),
    payloadBytes: 2,
    payloadSha256: null,
    receivedUs: BASE_US
  }
}

function eventOf(event: Partial<MaintenanceEvent> & { id: string; task: string }): MaintenanceEvent {
  return {
    state: 'pending',
    equipment: null,
    sensor: null,
    title: null,
    by: null,
    note: null,
    timestampUs: BASE_US,
    receivedUs: BASE_US,
    topic: 'plant/maintenance',
    ...event
  }
}
