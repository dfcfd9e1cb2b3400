// F3: kill -9 of the bridge: at random, amid a COPY, and between COMMIT and acknowledgement.
import { pause } from '../../shared/retry.ts'
import { openDatabaseProxy, throughProxy } from './database-proxy.ts'
import type { Fault } from './fault.ts'
import { openLine } from './line.ts'
import { batchesOf, inTime, untilMoving } from './progress.ts'

export const bridgeKill: Fault = {
  id: 'F3',
  title: 'kill -9 of the bridge',
  rounds: { short: 15, long: 200 },
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
    let atCommit = 0
    try {
      await line.start()
      for (let round = 1; round <= rounds; round++) {
        const moment = random.pick(['random', 'commit', 'copy'])
        const afterMs = random.between(20, 500)
        await pause(afterMs)
        line.demandRunning()
        if (moment === 'commit' || moment === 'copy') {
          await inTime(
            `a ${moment}`,
            proxy.strikeAt(moment, () => line.bridge.kill())
          )
        } else await line.bridge.kill()
        if (moment === 'commit') atCommit += 1
        const before = await batchesOf(line)
        line.bridge.start()
        const tookMs = await untilMoving(line, before)
        worstRecoveryMs = Math.max(worstRecoveryMs, tookMs)
        say(
          `killed ${moment === 'random' ? `after ${afterMs} ms` : `at a ${moment}`}, next batch stored after ${tookMs} ms`
        )
      }
      return { rounds, verdict: await line.finish(), worstRecoveryMs, note: `${atCommit} after COMMIT` }
    } finally {
      await line.close()
      await proxy.close()
    }
  }
}
