// The state of the current epoch's lanes: the sums of promise 5, the seqs given out, and the head of the digest chain.
// Kept in memory and written in each transaction that changes it; after a rollback it is read again.
import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { LANES, NO_PREDECESSOR } from '../../shared/batch/envelope.ts'
import type { Lane } from '../../shared/batch/envelope.ts'
import type { BufferFile } from './file.ts'

export type LaneState = {
  epoch: string
  lane: Lane
  received: number
  filtered: number
  duplicate: number
  accepted: number
  rejected: number
  evicted: number
  acknowledged: number
  stored: number
  cloudDuplicates: number
  deadLettered: number
  nextSeq: number
  /** The highest arrival time given as a timestamp, µs. */
  stamped: number
  sealedSeq: number
  lastBatch: number
  lastDigest: Uint8Array
}

export type Lanes = {
  epoch(): string
  current(lane: Lane): LaneState
  /** Every epoch's lanes, for the sums. */
  all(): LaneState[]
  save(state: LaneState): void
  /** Forgets what memory holds; after a rollback. */
  reload(): void
  /** Makes a new epoch whose seqs go on where the old one's ended. Inside the caller's transaction. */
  begin(): string
}

const laneRow = z.object({
  epoch: z.string(),
  lane: z.enum(LANES),
  received: z.number(),
  filtered: z.number(),
  duplicate: z.number(),
  accepted: z.number(),
  rejected: z.number(),
  evicted: z.number(),
  acknowledged: z.number(),
  stored: z.number(),
  cloudDuplicates: z.number(),
  deadLettered: z.number(),
  nextSeq: z.number(),
  stamped: z.number(),
  sealedSeq: z.number(),
  lastBatch: z.number(),
  lastDigest: z.custom<Uint8Array>((value) => value instanceof Uint8Array)
})

const SELECT_LANES = `
  SELECT epoch, lane, received, filtered, duplicate, accepted, rejected, evicted, acknowledged, stored,
    cloud_duplicates AS cloudDuplicates, dead_lettered AS deadLettered, next_seq AS nextSeq, stamped, sealed_seq AS sealedSeq,
    last_batch AS lastBatch, last_digest AS lastDigest
  FROM lanes`

const SAVE_LANE = `
  INSERT OR REPLACE INTO lanes (epoch, lane, received, filtered, duplicate, accepted, rejected, evicted, acknowledged, stored,
    cloud_duplicates, dead_lettered, next_seq, stamped, sealed_seq, last_batch, last_digest)
  VALUES (@epoch, @lane, @received, @filtered, @duplicate, @accepted, @rejected, @evicted, @acknowledged, @stored,
    @cloudDuplicates, @deadLettered, @nextSeq, @stamped, @sealedSeq, @lastBatch, @lastDigest)`

export function openLanes(db: BufferFile): Lanes {
  const selectLanes = db.prepare(SELECT_LANES)
  const saveLane = db.prepare(SAVE_LANE)
  const selectMeta = db.prepare("SELECT value FROM meta WHERE key = 'epoch'").pluck()
  const saveMeta = db.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES ('epoch', ?)")
  let epoch = ''
  const states = new Map<Lane, LaneState>()

  function all(): LaneState[] {
    return z.array(laneRow).parse(selectLanes.all())
  }
  function reload(): void {
    epoch = String(selectMeta.get() ?? '')
    states.clear()
    for (const state of all()) if (state.epoch === epoch) states.set(state.lane, state)
  }
  function current(lane: Lane): LaneState {
    const state = states.get(lane)
    if (state === undefined) throw new Error(`lane ${lane} has no state`)
    return state
  }
  function begin(): string {
    const before = new Map(states)
    epoch = randomBytes(16).toString('hex')
    saveMeta.run(epoch)
    for (const lane of LANES) {
      const old = before.get(lane)
      const state: LaneState = {
        epoch,
        lane,
        received: 0,
        filtered: 0,
        duplicate: 0,
        accepted: 0,
        rejected: 0,
        evicted: 0,
        acknowledged: 0,
        stored: 0,
        cloudDuplicates: 0,
        deadLettered: 0,
        nextSeq: old?.nextSeq ?? 1,
        stamped: old?.stamped ?? 0,
        sealedSeq: old?.sealedSeq ?? 0,
        lastBatch: 0,
        lastDigest: NO_PREDECESSOR
      }
      states.set(lane, state)
      saveLane.run(state)
    }
    return epoch
  }

  reload()
  if (epoch === '') db.transaction(begin)()
  return {
    epoch: () => epoch,
    current,
    all,
    save: (state) => void saveLane.run(state),
    reload,
    begin
  }
}
