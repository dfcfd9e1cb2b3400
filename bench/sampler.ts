// What the system says of a process: memory, processor time, bytes to the device. From /proc, so on Linux only.
import { readFileSync, statfsSync } from 'node:fs'
import { pause } from '../shared/retry.ts'

/** Bytes that the process caused to be sent to the storage layer: a page of the page cache counts when it becomes dirty. */
export function writtenBytes(pid: number): number {
  return field(`/proc/${pid}/io`, /^write_bytes: (\d+)$/m)
}

export function residentBytes(pid: number): number {
  return field(`/proc/${pid}/status`, /^VmRSS:\s+(\d+) kB$/m) * 1_024
}

/** User and system time since its start, s. */
export function processorSeconds(pid: number): number {
  // The name in parentheses may hold blanks; the times are the 14th and 15th fields.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S
}

export type MemorySampler = { stop(): Promise<{ peakBytes: number; medianBytes: number }> }

const EVERY_MS = 200
const TICKS_PER_S = 100
const TMPFS = 0x0102_1994

export function sampleMemory(pid: number): MemorySampler {
  const samples: number[] = []
  const stopped = new AbortController()
  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      samples.push(residentBytes(pid))
      await pause(EVERY_MS, stopped.signal)
    }
  }
  const running = run()
  return {
    async stop() {
      stopped.abort()
      await running
      samples.sort((a, b) => a - b)
      return { peakBytes: samples.at(-1) ?? 0, medianBytes: samples[samples.length >> 1] ?? 0 }
    }
  }
}

/** Files there lie in memory: nothing can be said of a disk. */
export function isInMemory(folder: string): boolean {
  return statfsSync(folder).type === TMPFS
}

function field(file: string, pattern: RegExp): number {
  const match = pattern.exec(readFileSync(file, 'utf8'))
  if (match === null) throw new Error(`${file} has no ${pattern.source}`)
  return Number(match[1])
}
