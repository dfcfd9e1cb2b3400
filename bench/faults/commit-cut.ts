// F13: the server commits, and its answer never arrives: the ledger settles what became of the batch.
import { pause } from '../../shared/retry.ts'
import { openDatabaseProxy, throughProxy } from './database-proxy.ts'
import type { Fault } from './fault.ts'
import { openLine } from './line.ts'
import { batchesOf, inTime, untilMoving } from './progress.ts'

export const commitCut: Fault = {
  id: 'F13',
  title: "COMMIT's answer cut",
  rounds: { short: 10, long: 200 },
  async run({ bed, folder, seed, random, rounds, checks, say }) {
    const databaseUrl = await bed.database()
    const proxy = await openDatabaseProxy(Number(new URL(databaseUrl).port))
    const line = await openLine({
      folder,
      databaseUrl,
      bridgeDatabaseUrl: throughProxy(databaseUrl, proxy),
      seed,
      checks
    })
    let worstRecoveryMs = 0
    try {
      await line.start()
      for (let round = 1; round <= rounds; round++) {
        await pause(random.between(20, 300))
        await inTime(
          'a COMMIT',
          proxy.strikeAt('commit', () => Promise.resolve())
        )
        line.demandRunning()
        const tookMs = await untilMoving(line, await batchesOf(line))
        worstRecoveryMs = Math.max(worstRecoveryMs, tookMs)
        say(`next batch stored after ${tookMs} ms`)
      }
      return { rounds, verdict: await line.finish(), worstRecoveryMs, note: '' }
    } finally {
      await line.close()
      await proxy.close()
    }
  }
}
