// F17: kill -9 of the broker between edge and bridge, which then knows nothing of what it had acknowledged.
import { pause } from '../../shared/retry.ts'
import { makeFolder } from './bed.ts'
import type { Fault } from './fault.ts'
import { openLine } from './line.ts'
import { createMosquitto, missingMosquitto } from './mosquitto.ts'
import { batchesOf, untilMoving } from './progress.ts'

export const brokerKill: Fault = {
  id: 'F17',
  title: 'kill -9 of Mosquitto',
  rounds: { short: 4, long: 50 },
  missing: missingMosquitto,
  async run({ bed, folder, seed, random, rounds, checks, say }) {
    const mosquitto = await createMosquitto(makeFolder(folder))
    const line = await openLine({
      folder,
      databaseUrl: await bed.database(),
      brokerUrl: mosquitto.url,
      seed,
      checks
    })
    let worstRecoveryMs = 0
    try {
      await mosquitto.start()
      await line.start()
      for (let round = 1; round <= rounds; round++) {
        await pause(random.between(100, 1_500))
        line.demandRunning()
        await mosquitto.kill()
        const awayMs = random.between(0, 500)
        await pause(awayMs)
        const before = await batchesOf(line)
        await mosquitto.start()
        const tookMs = await untilMoving(line, before)
        worstRecoveryMs = Math.max(worstRecoveryMs, tookMs)
        say(`away ${awayMs} ms, next batch stored after ${tookMs} ms`)
      }
      return { rounds, verdict: await line.finish(), worstRecoveryMs, note: '' }
    } finally {
      await line.close()
      await mosquitto.kill()
    }
  }
}
