// F9: PostgreSQL crashes (`pg_ctl stop -m immediate`) amid a COPY, and starts again.
import { join } from 'node:path'
import { pause } from '../../shared/retry.ts'
import { startPostgres } from '../../demo/postgres.ts'
import { makeFolder, migrateDatabase, SERVER_SETTINGS } from './bed.ts'
import { openDatabaseProxy, throughProxy } from './database-proxy.ts'
import type { Fault } from './fault.ts'
import { openLine, removeFolder } from './line.ts'
import { batchesOf, inTime, untilMoving } from './progress.ts'

export const databaseCrash: Fault = {
  id: 'F9',
  title: 'crash of PostgreSQL amid a COPY',
  rounds: { short: 8, long: 200 },
  async run({ folder, seed, random, rounds, checks, say }) {
    makeFolder(folder)
    let server = await startPostgres({ dataDir: join(folder, 'postgres'), settings: SERVER_SETTINGS })
    const proxy = await openDatabaseProxy(server.port)
    let worstRecoveryMs = 0
    try {
      await migrateDatabase(server.url, join(folder, 'migrate.log'))
      const line = await openLine({
        folder,
        databaseUrl: server.url,
        bridgeDatabaseUrl: throughProxy(server.url, proxy),
        seed,
        checks
      })
      try {
        await line.start()
        for (let round = 1; round <= rounds; round++) {
          await pause(random.between(50, 500))
          await inTime(
            'a COPY',
            proxy.strikeAt('copy', () => server.stop('immediate'))
          )
          const awayMs = random.between(0, 1_500)
          await pause(awayMs)
          const { port, dataDir } = server
          server = await startPostgres({ dataDir, port, settings: SERVER_SETTINGS })
          line.demandRunning()
          const tookMs = await untilMoving(line, await batchesOf(line))
          worstRecoveryMs = Math.max(worstRecoveryMs, tookMs)
          say(`away ${awayMs} ms, next batch stored after ${tookMs} ms`)
        }
        return { rounds, verdict: await line.finish(), worstRecoveryMs, note: '' }
      } finally {
        await line.close()
      }
    } finally {
      await proxy.close()
      await server.stop('immediate')
      if (server.dataDir !== join(folder, 'postgres')) removeFolder(server.dataDir)
    }
  }
}
