// F3: kill -9 of the bridge: at random, amid a COPY, and between COMMIT and acknowledgement.
//
// Once with its own broker, which dies with it, and once behind a broker that stays: there the edge doesn't notice.
import { pause } from '../../shared/retry.ts'
import { openDatabaseProxy, throughProxy } from './database-proxy.ts'
import type { Fault, Outcome, Run } from './fault.ts'
import { GATEWAY, openLine } from './line.ts'
import type { Line } from './line.ts'
import { batchesOf, inTime, untilMoving } from './progress.ts'
import { openRelay } from './relay.ts'
import type { Relay } from './relay.ts'

export const bridgeKill: Fault = {
  id: 'F3',
  title: 'kill -9 of the bridge',
  rounds: { short: 15, long: 200 },
  run: (run) => killAgainAndAgain(run, true)
}

export const bridgeKillWithBroker: Fault = {
  id: 'F3-BROKER',
  title: 'kill -9 of the bridge with its own broker',
  rounds: { short: 3, long: 50 },
  run: (run) => killAgainAndAgain(run, false)
}

async function killAgainAndAgain(run: Run, isBehindBroker: boolean): Promise<Outcome> {
  const { bed, folder, seed, rounds, checks, random } = run
  const databaseUrl = await bed.database()
  const proxy = await openDatabaseProxy(Number(new URL(databaseUrl).port))
  const bridgeDatabaseUrl = throughProxy(databaseUrl, proxy)
  let relay: Relay | null = null
  const uplink = isBehindBroker ? { uplinkUrl: () => relay?.url ?? '' } : {}
  const line = await openLine({ folder, databaseUrl, bridgeDatabaseUrl, seed, checks, ...uplink })
  let worstRecoveryMs = 0
  let atCommit = 0

  /** How long until the next batch was stored, ms. */
  async function killOnce(): Promise<number> {
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
    run.say(
      `killed ${moment === 'random' ? `after ${afterMs} ms` : `at a ${moment}`}, next batch stored after ${tookMs} ms`
    )
    return tookMs
  }

  try {
    line.bridge.start()
    await line.bridge.untilReady()
    if (isBehindBroker) relay = await openRelay({ gateway: GATEWAY, targets: [line.bridge.brokerPort], random })
    await line.startEdge()
    for (let round = 1; round <= rounds; round++) worstRecoveryMs = Math.max(worstRecoveryMs, await killOnce())
    return { rounds, verdict: await line.finish(), worstRecoveryMs, note: `${atCommit} after COMMIT` }
  } finally {
    await closeAll(line, relay, proxy)
  }
}

async function closeAll(line: Line, relay: Relay | null, proxy: { close(): Promise<void> }): Promise<void> {
  await line.close()
  await relay?.close()
  await proxy.close()
}
