// `npm run bench`: measures, prints one table, and writes the run to bench/results/.
//
// Exit status 0 when all ran and nothing was lost or doubled, whether or not the targets were reached.
import { loadavg } from 'node:os'
import { dirname, join } from 'node:path'
import { AppError, messageOf } from '../shared/errors.ts'
import { openContext } from './bench.ts'
import type { Bench } from './bench.ts'
import { skippedBecause } from './figures.ts'
import type { Outcome } from './figures.ts'
import { copyBench } from './measures/copy.ts'
import { doorBench } from './measures/door.ts'
import { drainBench } from './measures/drain.ts'
import { latencyBench } from './measures/latency.ts'
import { memoryBench } from './measures/memory.ts'
import { sizeBench } from './measures/size.ts'
import { sourceBench } from './measures/source.ts'
import { startBench } from './measures/start.ts'
import { wearBench } from './measures/wear.ts'
import { readBenchOptions } from './options.ts'
import type { BenchOptions } from './options.ts'
import { writeRecord } from './record.ts'
import type { BenchRecord } from './record.ts'
import { tableOf } from './table.ts'

const CHECKOUT = dirname(import.meta.dirname)
const BENCHES: readonly Bench[] = [
  doorBench,
  sourceBench,
  copyBench,
  latencyBench,
  drainBench,
  memoryBench,
  sizeBench,
  wearBench,
  startBench
]

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

const HELP = `npm run bench -- [names] [options]

${BENCHES.map(({ name, about }) => `  ${name.padEnd(10)}${about}`).join('\n')}

  --rounds N     rounds of each comparison (3)
  --seed N       other values and phases (1)
  --quick        short runs that show that a bench works; their figures mean little
  --folder PATH  where the measured data lies: a real disk (data/bench)

TEST_DATABASE_URL names a server, a TimescaleDB say, on which databases may be made; without it PostgreSQL is embedded.`

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

async function runBench(bench: Bench, options: BenchOptions): Promise<BenchRecord> {
  say(`== ${bench.name}: ${bench.about}`)
  const startMs = performance.now()
  const loadBefore = loadavg()[0] ?? 0
  const { rounds, seed, quick } = options
  let outcome: Outcome = skippedBecause('failed')
  let failed: string | null = null
  const context = openContext({
    bench: bench.name,
    rounds,
    seed,
    quick,
    root: options.folder,
    say: (text) => say(`   ${text}`)
  })
  function onSignal(): void {
    void context.close(false).finally(() => process.exit(130))
  }
  for (const signal of SIGNALS) process.once(signal, onSignal)
  try {
    outcome = await bench.run(context)
  } catch (error) {
    failed = error instanceof Error ? (error.stack ?? error.message) : messageOf(error)
    say(`   FAILED: ${failed}`)
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal)
    await context.close(failed !== null)
  }
  const seconds = Math.round((performance.now() - startMs) / 100) / 10
  return {
    name: bench.name,
    about: bench.about,
    seconds,
    loadAverage: [loadBefore, loadavg()[0] ?? 0],
    ...outcome,
    failed
  }
}

function shownMinutes(benches: readonly Bench[], rounds: number): string {
  const seconds = benches.reduce((sum, { expectedS }) => sum + expectedS.once + expectedS.round * rounds, 0)
  return seconds < 90 ? `${Math.ceil(seconds / 10) * 10} s` : `${Math.ceil(seconds / 60)} minutes`
}

async function main(): Promise<number> {
  const names = BENCHES.map(({ name }) => name)
  const options = readBenchOptions(process.argv.slice(2), names, join(CHECKOUT, 'data', 'bench'))
  if (options.help) {
    process.stdout.write(`${HELP}\n`)
    return 0
  }
  const chosen = BENCHES.filter(({ name }) => options.names.includes(name))
  if (!options.quick) say(`this takes about ${shownMinutes(chosen, options.rounds)} on two cores`)
  const startedAt = new Date()
  const records: BenchRecord[] = []
  for (const bench of chosen) records.push(await runBench(bench, options))
  const file = writeRecord({ checkout: CHECKOUT, startedAt, options, benches: records })
  process.stdout.write(`${tableOf(records).join('\n')}\n\n`)
  for (const { name, notes, failed, seconds, loadAverage } of records) {
    const [before, after] = loadAverage.map((load) => load.toFixed(1))
    process.stdout.write(`${name}: ${seconds} s, load average ${before} before, ${after} after\n`)
    for (const note of notes) process.stdout.write(`  ${note}\n`)
    if (failed !== null) process.stdout.write(`  failed: ${failed.split('\n', 1)[0]}\n`)
  }
  process.stdout.write(`\nwritten to ${file}\n`)
  const lost = records
    .flatMap(({ figures }) => figures)
    .some(({ losses }) => losses !== null && losses.lost + losses.duplicates > 0)
  return lost || records.some(({ failed }) => failed !== null) ? 1 : 0
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof AppError)) throw error
  process.stderr.write(`bench: ${error.message}${error.hint === null ? '' : `; ${error.hint}`}\n`)
  process.exitCode = 1
}
