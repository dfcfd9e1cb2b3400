// What a bench is given and gives. Each measures ratios or limits within one run; what it compares runs in turn
// (A B A B …), so that a slow minute of the machine falls on both.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import type { Log } from '../shared/log.ts'
import { createClosers } from '../shared/service.ts'
import type { Closers } from '../shared/service.ts'
import type { Outcome } from './figures.ts'

export type Bench = {
  name: string
  /** One line: what is measured against what. */
  about: string
  /** What a full run takes on two cores, s. */
  expectedS: { once: number; round: number }
  run(context: Context): Promise<Outcome>
}

export type Context = {
  rounds: number
  seed: number
  /** Short runs show that a bench works; their figures mean little. */
  quick: boolean
  /** `full`, or `short` in a quick run. */
  pick(full: number, short: number): number
  /** A new folder below the one on the measured disk, deleted when the bench ends. */
  folder(name: string): string
  /** Programs write here; kept when a bench fails. */
  logFolder: string
  /** How to end what was started, in reverse. */
  closers: Closers
  log: Log
  /** A line about the progress. */
  say(text: string): void
}

export function openContext(options: {
  bench: string
  rounds: number
  seed: number
  quick: boolean
  root: string
  say: (text: string) => void
}): Context & { close(failed: boolean): Promise<void> } {
  const { bench, rounds, seed, quick, say } = options
  mkdirSync(options.root, { recursive: true, mode: 0o711 })
  const base = mkdtempSync(join(options.root, `${bench}-`))
  const logFolder = join(base, 'logs')
  mkdirSync(logFolder)
  const log = pino({ level: 'warn' }, pino.destination({ dest: join(logFolder, 'bench.log'), sync: true }))
  const closers = createClosers(log)
  const folders: string[] = []
  return {
    rounds,
    seed,
    quick,
    pick: (full, short) => (quick ? short : full),
    folder(name) {
      const made = mkdtempSync(join(base, `${name}-`))
      folders.push(made)
      return made
    },
    logFolder,
    closers,
    log,
    say,
    async close(failed) {
      await closers.closeAll()
      for (const folder of failed ? folders : [base]) rmSync(folder, { recursive: true, force: true })
      if (failed) say(`the programs’ logs: ${logFolder}`)
    }
  }
}
