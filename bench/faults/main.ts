// The fault suite: `npm run faults -- --short | --long | --only F1,F4 --rounds N --seed N`.
//
// Each fault breaks a line of real processes while an oracle apart from it publishes; afterwards what the oracle knows is
// compared with what the database holds. The same seed gives the same load and the same times of faults, as far as the
// machine's clock lets it. Exit status 1 when anything failed; `MILLRACE_NO_SKIP=1` makes a missing program a failure.
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createRandom, seedOf } from '../oracle/random.ts'
import { openBed } from './bed.ts'
import type { Bed } from './bed.ts'
import { createChecks } from './checks.ts'
import { brokerKill } from './broker-kill.ts'
import { bridgeKill, bridgeKillWithBroker } from './bridge-kill.ts'
import { clone } from './clone.ts'
import { commitCut } from './commit-cut.ts'
import { databaseCrash } from './database-crash.ts'
import { edgeKill } from './edge-kill.ts'
import type { Fault } from './fault.ts'
import { outage } from './outage.ts'
import { twoBridges } from './two-bridges.ts'
import { powerCut, powerCutControl } from './power-cut.ts'
import { removeFolder } from './line.ts'
import { CHECKOUT, leftRunning } from './program.ts'
import { sum, table, writeResults } from './report.ts'
import type { Result } from './report.ts'

const FAULTS: readonly Fault[] = [
  edgeKill,
  bridgeKill,
  bridgeKillWithBroker,
  databaseCrash,
  commitCut,
  brokerKill,
  clone,
  outage,
  twoBridges,
  powerCut,
  powerCutControl
]

const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    long: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
    seed: { type: 'string' }
  }
})

const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
const wanted = values.only?.split(',').map((id) => id.trim().toUpperCase())
const unknown = wanted?.filter((id) => !FAULTS.some((fault) => fault.id === id)) ?? []
if (unknown.length > 0 || !Number.isSafeInteger(seed)) {
  process.stderr.write(`faults: there are ${FAULTS.map(({ id }) => id).join(', ')}; --seed is a whole number\n`)
  process.exit(1)
}

process.stdout.write(`seed ${seed}\n`)
const bed = await openBed()
const results: Result[] = []
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    void bed.close().then(() => process.exit(130))
  })
}
try {
  for (const fault of FAULTS) if (wanted?.includes(fault.id) ?? true) results.push(await runFault(bed, fault))
} finally {
  await bed.close()
}
if (readdirSync(bed.folder).length === 0) rmSync(bed.folder, { recursive: true })
process.stdout.write(`\n${table(results, seed)}\n`)
const file = writeResults(join(CHECKOUT, 'bench/results'), results, { seed, long: values.long })
process.stdout.write(`written to ${file}\n`)
const { passed, failed, skipped } = sum(results)
process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`)
process.exitCode = failed > 0 || passed === 0 ? 1 : 0

async function runFault(on: Bed, fault: Fault): Promise<Result> {
  const missing = fault.missing?.() ?? null
  const checks = createChecks()
  const startMs = performance.now()
  const base = { id: fault.id, title: fault.title, outcome: null, skipped: null }
  process.stdout.write(`\n${fault.id} ${fault.title}\n`)
  if (missing !== null && process.env['MILLRACE_NO_SKIP'] !== '1') {
    process.stdout.write(`  skipped: ${missing}\n`)
    return { ...base, skipped: missing, failed: [], tookMs: 0 }
  }
  const rounds = values.rounds === undefined ? fault.rounds[values.long ? 'long' : 'short'] : Number(values.rounds)
  const folder = join(on.folder, fault.id)
  let outcome: Result['outcome'] = null
  let round = 0
  try {
    const random = createRandom(seedOf(seed, fault.id))
    outcome = await fault.run({
      bed: on,
      folder,
      seed: seedOf(seed, fault.id),
      random,
      rounds,
      checks,
      say(text) {
        round += 1
        process.stdout.write(`  ${round} ${text}\n`)
      }
    })
  } catch (error) {
    checks.add('course', error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  const left = leftRunning()
  if (left > 0) checks.add('I9', `${left} processes are left`)
  const failed = checks.failed()
  for (const { invariant, problem } of failed) process.stdout.write(`  FAILED ${invariant}: ${problem}\n`)
  if (failed.length === 0) removeFolder(folder)
  else if (existsSync(folder)) process.stdout.write(`  logs, journal and buffer are in ${folder}\n`)
  return { ...base, outcome, failed, tookMs: Math.round(performance.now() - startMs) }
}
