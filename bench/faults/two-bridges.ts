// The same batches to two bridges at once, twice, damaged, overtaking each other; and answers lost.
import type { Fault } from './fault.ts'
import { GATEWAY, openLine } from './line.ts'
import { openRelay } from './relay.ts'
import type { Harm } from './relay.ts'
import { createBridge } from './services.ts'
import { until } from './until.ts'

const QUIET: Harm = { twice: 0, damaged: 0, answerLost: 0, cutOff: 0, delayMs: 0 }
/** In turn. */
const HARMS: readonly { name: string; harm: Partial<Harm> }[] = [
  { name: 'to two bridges at once', harm: {} },
  { name: 'answers lost', harm: { answerLost: 0.5, cutOff: 0.3 } },
  { name: 'twice and overtaking', harm: { twice: 0.5, delayMs: 200 } },
  { name: 'all of it, and damaged', harm: { twice: 0.3, damaged: 0.2, answerLost: 0.3, cutOff: 0.3, delayMs: 200 } }
]

/** A round lasts until this many batches have passed: lost answers hold them up. */
const ROUND_BATCHES = 15
const ROUND_MS = 60_000

export const twoBridges: Fault = {
  id: 'TWICE',
  title: 'two bridges, lost answers',
  rounds: { short: 4, long: 80 },
  async run({ bed, folder, seed, random, rounds, checks, say }) {
    const databaseUrl = await bed.database()
    const relayUrl = { url: '' }
    const line = await openLine({ folder, databaseUrl, seed, checks, uplinkUrl: () => relayUrl.url })
    const second = await createBridge({ folder, name: 'bridge-2', databaseUrl, brokerUrl: null })
    second.start()
    line.bridge.start()
    try {
      await Promise.all([second.untilReady(), line.bridge.untilReady()])
      const relay = await openRelay({
        gateway: GATEWAY,
        targets: [line.bridge.brokerPort, second.brokerPort],
        random
      })
      relayUrl.url = relay.url
      try {
        await line.startEdge()
        for (let round = 0; round < rounds; round++) {
          const { name, harm } = HARMS[round % HARMS.length] ?? { name: '', harm: {} }
          Object.assign(relay.harm, QUIET, harm)
          const goal = relay.figures().batches + ROUND_BATCHES
          await until(`${ROUND_BATCHES} batches`, ROUND_MS, () => {
            line.demandRunning()
            second.demandRunning()
            return relay.figures().batches >= goal
          })
          const { twice, damaged, answersLost, cutOff } = relay.figures()
          say(`${name}: ${twice} sent twice, ${damaged} damaged, ${answersLost} answers lost, ${cutOff} times cut off`)
        }
        Object.assign(relay.harm, QUIET)
        const verdict = await line.finish()
        await second.stop().catch((error: Error) => checks.add('I9', error.message))
        return { rounds, verdict, worstRecoveryMs: null, note: `${relay.figures().answersLost} answers lost` }
      } finally {
        await relay.close()
      }
    } finally {
      await second.kill()
      await line.close()
    }
  }
}
