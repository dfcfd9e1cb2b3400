// What every load generator has in common: its task in the first argument, its findings as JSON on standard output, its
// end when standard input ends, which the end of the bench brings about too.
import { build } from 'hdr-histogram-js'
import type { Histogram } from 'hdr-histogram-js'
import type { z } from 'zod'

export function readTask<Schema extends z.ZodType>(schema: Schema): z.output<Schema> {
  return schema.parse(JSON.parse(process.argv[2] ?? ''))
}

/** One line of JSON; the last one is the result. */
export function tell(findings: unknown): void {
  process.stdout.write(`${JSON.stringify(findings)}\n`)
}

const stopped = new AbortController()
process.stdin.resume()
process.stdin.on('end', () => stopped.abort())
process.stdin.on('error', () => stopped.abort())

/** Aborted when the bench wants the end. */
export const stop: AbortSignal = stopped.signal

/** Milliseconds since 1970 with fractions, which every process of the machine agrees on. */
export function wallMs(): number {
  return performance.timeOrigin + performance.now()
}

const MICROSECONDS = 1_000
const LONGEST_US = 3_600_000_000

/** Latencies to the microsecond up to an hour. */
export function createLatencies(): {
  note(ms: number): void
  summary(): { p50Ms: number; p99Ms: number; maxMs: number; count: number }
} {
  const histogram: Histogram = build({ highestTrackableValue: LONGEST_US, numberOfSignificantValueDigits: 3 })
  const at = (percentile: number) => histogram.getValueAtPercentile(percentile) / MICROSECONDS
  return {
    note: (ms) => histogram.recordValue(Math.min(LONGEST_US, Math.max(1, Math.round(ms * MICROSECONDS)))),
    summary: () => ({
      p50Ms: at(50),
      p99Ms: at(99),
      maxMs: histogram.maxValue / MICROSECONDS,
      count: histogram.totalCount
    })
  }
}
