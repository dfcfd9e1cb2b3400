// F1: kill -9 of the edge, 50 to 600 ms into load, again and again under one oracle.
import { availableParallelism, loadavg } from 'node:os'
import { pause } from '../../shared/retry.ts'
import type { Fault } from './fault.ts'
import { openLine } from './line.ts'

/** From the start of the process to its first acknowledgement, on a machine that isn't taken by others. */
const MAX_RECOVERY_MS = 2_000
/** More processes than this wait for each core: others have the machine, and a slow start says nothing. */
const BUSY_LOAD = 2

export const edgeKill: Fault = {
  id: 'F1',
  title: 'kill -9 of the edge',
  rounds: { short: 20, long: 200 },
  async run({ bed, folder, seed, random, rounds, checks, say }) {
    const line = await openLine({ folder, databaseUrl: await bed.database(), seed, checks })
    let worstRecoveryMs = 0
    let busyRounds = 0
    try {
      await line.start()
      for (let round = 1; round <= rounds; round++) {
        const intoLoadMs = random.between(50, 600)
        await pause(intoLoadMs)
        line.demandRunning()
        await line.edge.kill()
        const startMs = Date.now()
        line.edge.start()
        const tookMs = (await line.oracle().firstAfter(startMs)) - startMs
        worstRecoveryMs = Math.max(worstRecoveryMs, tookMs)
        if (tookMs > MAX_RECOVERY_MS) {
          if ((loadavg()[0] ?? 0) > BUSY_LOAD * availableParallelism()) busyRounds += 1
          else
            checks.add(
              'course',
              `round ${round}: ${tookMs} ms to the first acknowledgement, at most ${MAX_RECOVERY_MS}`
            )
        }
        say(
          `killed after ${intoLoadMs} ms, first acknowledgement after ${tookMs} ms, ${line.oracle().accepted()} accepted`
        )
      }
      const note = busyRounds === 0 ? '' : `${busyRounds} slow starts on a busy machine`
      return { rounds, verdict: await line.finish(), worstRecoveryMs, note }
    } finally {
      await line.close()
    }
  }
}
