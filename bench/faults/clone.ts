// F24: the buffer of a stopped edge is copied; the original goes on, then the copy runs under the same gateway id, after it or
// at the same time. Its numbers are taken: it is refused, an alarm stands in the registry, and it goes on in a new epoch with
// nothing lost or doubled.
//
// Batches that waited when the copy was made are in both buffers and may come from either: a replay, not a fork.
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { pause } from '../../shared/retry.ts'
import { withConnection } from './bed.ts'
import type { Fault, Run } from './fault.ts'
import { bufferProblems, drained, GATEWAY, openLine } from './line.ts'
import type { Line } from './line.ts'
import { checkSums } from './ledger.ts'
import { batchesOf, untilMoving } from './progress.ts'
import { createEdge } from './services.ts'
import type { Edge } from './services.ts'
import { until } from './until.ts'

const NOTICED_MS = 30_000

export const clone: Fault = {
  id: 'F24',
  title: 'cloned buffer',
  rounds: { short: 2, long: 20 },
  async run(run) {
    const { bed, folder, seed, random, rounds, checks, say } = run
    const line = await openLine({ folder, databaseUrl: await bed.database(), seed, checks })
    const epochs = { shared: new Set<string>(), foreign: new Set<string>() }
    const clones: Edge[] = []
    try {
      await line.start()
      for (let round = 1; round <= rounds; round++) {
        const isWaiting = random.chance(0.5)
        const isAtOnce = round % 2 === 0
        const copy = await copyEdge(run, line, isWaiting, round)
        clones.push(copy)
        const before = await batchesOf(line)
        line.edge.start()
        await untilMoving(line, before)
        await pause(random.between(300, 1_500))
        await runClone(run, line, copy, isAtOnce, epochs)
        if (!line.edge.isRunning()) line.edge.start()
        await until('the original to be ready', NOTICED_MS, () => line.edge.isReady())
        say(`${isAtOnce ? 'both at once' : 'one after the other'}, ${isWaiting ? 'with' : 'without'} batches waiting`)
      }
      const verdict = await line.finish(epochs)
      return { rounds, verdict, worstRecoveryMs: null, note: '' }
    } finally {
      await Promise.all(clones.map((copy) => copy.kill()))
      await line.close()
    }
  }
}

/** Stops the original, with or without batches that the cloud hasn't, and copies its folder. */
async function copyEdge({ folder, random }: Run, line: Line, isWaiting: boolean, round: number): Promise<Edge> {
  await pause(random.between(300, 1_000))
  if (isWaiting) {
    await line.bridge.kill()
    await pause(random.between(200, 800))
  }
  await line.edge.stop()
  const uplinkUrl = () => `mqtt://127.0.0.1:${line.bridge.brokerPort}`
  const copy = await createEdge({ folder, name: `clone-${round}`, gateway: GATEWAY, uplinkUrl })
  cpSync(line.edge.dataFolder, copy.dataFolder, { recursive: true })
  if (isWaiting) line.bridge.start()
  return copy
}

async function runClone(
  { checks }: Run,
  line: Line,
  copy: Edge,
  isAtOnce: boolean,
  { shared, foreign }: { shared: Set<string>; foreign: Set<string> }
): Promise<void> {
  const { epoch, sums: before } = await line.edge.health()
  for (const of of before) shared.add(of.epoch)
  await withConnection(line.databaseUrl, (db) => db.query('UPDATE gateways SET alarm = NULL, alarm_at = NULL'))
  if (!isAtOnce) await line.edge.stop()
  copy.start()
  const oracle = line.startOracle({ port: copy.brokerPort })
  await until('the clone to take a new epoch', NOTICED_MS, async () => {
    copy.demandRunning()
    const health = await copy.health().catch(() => null)
    return health !== null && health.epoch !== epoch
  })
  await withConnection(line.databaseUrl, async (db) => {
    const { rows } = await db.query('SELECT alarm FROM gateways WHERE gateway_id = $1 AND alarm IS NOT NULL', [GATEWAY])
    if (rows.length === 0) checks.add('course', 'a clone was refused, and no alarm stands in the registry')
  })
  if (isAtOnce) await line.edge.stop()
  await oracle.finish()
  const { balanced, sums } = await drained(copy, line.bridge)
  if (!balanced) checks.add('I5', 'the clone says that its sums are not balanced')
  const own = new Set(sums.map((of) => of.epoch).filter((of) => !shared.has(of)))
  await withConnection(line.databaseUrl, (db) => checkSums(db, sums, checks, (of) => own.has(of)))
  for (const of of own) foreign.add(of)
  await copy.stop().catch((error: Error) => checks.add('I9', error.message))
  checks.addAll('I9', bufferProblems(join(copy.dataFolder, 'buffer.db')))
}
