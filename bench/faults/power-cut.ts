// F4: a power cut at the edge: of what it wrote and didn't sync nothing survives, or a random part of the sectors (F5).
// Its control, the same with synchronous=NORMAL, must lose what was accepted: else this proves nothing.
//
// The gateway's id is the one that the edge made at its first start: it must survive as well.
import { pause } from '../../shared/retry.ts'
import { createRandom, seedOf } from '../oracle/random.ts'
import { createChecks } from './checks.ts'
import type { Checks } from './checks.ts'
import type { Fault, Outcome, Run } from './fault.ts'
import { openLine } from './line.ts'
import { createPower, missingCompiler } from './power.ts'

/** Between a start and the cut the load must have written something unsynced. */
const LOAD_MS = { from: 50, to: 600 }

/** A card's sync: every second cut comes amid one. */
const SYNC_MS = 15
/** The smallest buffer there is: its WAL is written back often, so cuts come amid that as well. */
const SMALL_BUFFER = '16MiB'

export const powerCut: Fault = {
  id: 'F4',
  title: 'power cut at the edge',
  rounds: { short: 12, long: 200 },
  missing: missingCompiler,
  run: (run) => cutAgainAndAgain(run, run.checks, 'edge/main.ts')
}

export const powerCutControl: Fault = {
  id: 'F4-CONTROL',
  title: 'the same with synchronous=NORMAL',
  rounds: { short: 3, long: 20 },
  missing: missingCompiler,
  async run(run) {
    // Its findings are wanted, so they are no failures.
    const findings = createChecks()
    const outcome = await cutAgainAndAgain(run, findings, 'bench/faults/edge-process.ts')
    if (outcome.verdict.lost === 0)
      run.checks.add('course', 'nothing was lost without syncing: the power cut cuts nothing')
    return { ...outcome, note: `${outcome.verdict.lost} lost, as it must` }
  }
}

async function cutAgainAndAgain(run: Run, checks: Checks, file: string): Promise<Outcome> {
  const { bed, folder, seed, random, rounds, say } = run
  const power = createPower(folder, SYNC_MS)
  const isControl = file !== 'edge/main.ts'
  const line = await openLine({
    folder,
    databaseUrl: await bed.database(),
    seed,
    checks,
    edge: {
      file,
      env: { ...power.env, EDGE_GATEWAY_ID: '', ...(isControl ? {} : { EDGE_BUFFER_MAX_BYTES: SMALL_BUFFER }) }
    }
  })
  let worstRecoveryMs = 0
  try {
    await line.start()
    const gateway = (await line.edge.health()).gateway
    for (let round = 1; round <= rounds; round++) {
      const intoLoadMs = random.between(LOAD_MS.from, LOAD_MS.to)
      await pause(intoLoadMs)
      line.demandRunning()
      await line.edge.kill()
      const survival = isControl || round % 2 === 1 ? 0 : random.pick([0.1, 0.5, 0.9])
      const lost = power.cut(survival, createRandom(seedOf(seed, `cut ${round}`)))
      const startMs = Date.now()
      line.edge.start()
      const tookMs = (await line.oracle().firstAfter(startMs)) - startMs
      worstRecoveryMs = Math.max(worstRecoveryMs, tookMs)
      say(
        `cut after ${intoLoadMs} ms, ${lost} sectors lost, ${survival} survived; first acknowledgement after ${tookMs} ms`
      )
      const { gateway: now, buffer } = await line.edge.health()
      if (now !== gateway) checks.add('course', `round ${round}: the gateway calls itself ${now}, before ${gateway}`)
      if (buffer.setAside !== null) checks.add('I9', `round ${round}: the buffer was found broken: ${buffer.setAside}`)
    }
    return { rounds, verdict: await line.finish(), worstRecoveryMs, note: '' }
  } finally {
    await line.close()
  }
}
