// The cloud is away for the whole run, the edge restarts meanwhile, once in order and then by kill -9; then the cloud comes.
import { pause } from '../../shared/retry.ts'
import type { Fault } from './fault.ts'
import { openLine } from './line.ts'

export const outage: Fault = {
  id: 'AWAY',
  title: 'no cloud, edge restarted meanwhile',
  rounds: { short: 3, long: 20 },
  async run({ bed, folder, seed, random, rounds, checks, say }) {
    const line = await openLine({ folder, databaseUrl: await bed.database(), seed, checks })
    let worstRecoveryMs = 0
    try {
      line.edge.start()
      const startMs = Date.now()
      const oracle = line.startOracle()
      await oracle.firstAfter(startMs)
      for (let round = 1; round <= rounds; round++) {
        await pause(random.between(200, 1_200))
        if (!(await line.edge.isReady())) checks.add('course', 'the edge is not ready while the cloud is away')
        const inOrder = round % 2 === 1
        if (inOrder) await line.edge.stop().catch((error: Error) => checks.add('I9', error.message))
        else await line.edge.kill()
        const againMs = Date.now()
        line.edge.start()
        const tookMs = (await oracle.firstAfter(againMs)) - againMs
        worstRecoveryMs = Math.max(worstRecoveryMs, tookMs)
        say(
          `${inOrder ? 'stopped' : 'killed'}, first acknowledgement after ${tookMs} ms, ${oracle.accepted()} accepted`
        )
      }
      await oracle.finish()
      const waiting = (await line.edge.health()).backlog?.records ?? 0
      line.bridge.start()
      const verdict = await line.finish()
      return { rounds, verdict, worstRecoveryMs, note: `${waiting} waited for the cloud` }
    } finally {
      await line.close()
    }
  }
}
