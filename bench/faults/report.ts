// The table at the end, and the same as JSON.
import { mkdirSync, writeFileSync } from 'node:fs'
import { arch, availableParallelism, platform } from 'node:os'
import { join } from 'node:path'
import manifest from '../../package.json' with { type: 'json' }
import { INVARIANTS } from './checks.ts'
import type { Invariant } from './checks.ts'
import type { Outcome } from './fault.ts'

export type Result = {
  id: string
  title: string
  /** Null when it was skipped or ended early. */
  outcome: Outcome | null
  /** Why it did not run. */
  skipped: string | null
  failed: { invariant: Invariant; problem: string }[]
  tookMs: number
}

/** Every invariant of every fault that ran counts as one; a fault that was skipped as one. */
export function sum(results: readonly Result[]): { passed: number; failed: number; skipped: number } {
  const all = Object.keys(INVARIANTS).length
  let passed = 0
  let failed = 0
  let skipped = 0
  for (const result of results) {
    const broken = new Set(result.failed.map(({ invariant }) => invariant)).size
    if (result.skipped !== null) skipped += 1
    else if (result.outcome === null) failed += Math.max(1, broken)
    else {
      failed += broken
      passed += all - broken
    }
  }
  return { passed, failed, skipped }
}

const HEAD = ['fault', '', 'rounds', 'accepted', 'rows', 'lost', 'doubled', 'altered', 'worst recovery', 'took', '']

export function table(results: readonly Result[], seed: number): string {
  const rows = results.map(({ id, title, outcome, skipped, failed, tookMs }) => {
    const verdict = outcome?.verdict
    const recoveryMs = outcome?.worstRecoveryMs ?? null
    return [
      id,
      title,
      ...[outcome?.rounds, verdict?.accepted, verdict?.rows, verdict?.lost, verdict?.doubled, verdict?.altered].map(
        (figure) => (figure === undefined ? '-' : String(figure))
      ),
      recoveryMs === null ? '-' : `${recoveryMs} ms`,
      `${(tookMs / 1_000).toFixed(1)} s`,
      skipped !== null ? `skipped: ${skipped}` : failed.length > 0 ? 'FAILED' : (outcome?.note ?? '')
    ]
  })
  const widths = HEAD.map((_, column) => Math.max(...[HEAD, ...rows].map((row) => row[column]?.length ?? 0)))
  const lines = [HEAD, ...rows].map((row) =>
    row
      .map((cell, column) =>
        column < 2 || column === row.length - 1 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)
      )
      .join('  ')
      .trimEnd()
  )
  return `${lines.join('\n')}\nseed ${seed}`
}

/** Returns the file's path. */
export function writeResults(folder: string, results: readonly Result[], run: { seed: number; long: boolean }): string {
  mkdirSync(folder, { recursive: true })
  const at = new Date().toISOString()
  const file = join(folder, `faults-${at.replaceAll(':', '')}.json`)
  const machine = { platform: platform(), arch: arch(), cores: availableParallelism(), node: process.versions.node }
  writeFileSync(file, `${JSON.stringify({ at, version: manifest.version, ...run, machine, results }, null, 2)}\n`)
  return file
}
