// The live line's figures, from the plant, the edge, the bridge, the database and the logs.
import { AppError } from '../shared/errors.ts'
import type { Line } from './line.ts'
import type { Logs } from './logs.ts'
import type { Publisher } from './plant/publisher.ts'
import type { Figures } from './screen.ts'

/** The figures of now; what can't be asked is null and never an error. */
export async function lookAt(line: Line, publisher: Publisher | null, logs: Logs): Promise<Figures> {
  const [edge, rows] = await Promise.all([edgeStatus(line), line.rows.count()])
  const bridge = line.bridge.report()
  const plant = publisher?.figures() ?? null
  const skipped = plant?.skipped ?? 0
  return {
    plant,
    waiting: edge?.backlog?.records ?? null,
    rows,
    lagS: edge?.backlog?.oldestS ?? 0,
    problems: [
      ...(skipped > 0 ? [`the plant: ${skipped} readings were not measured, the edge takes too few`] : []),
      ...(edge?.problems ?? []).map((problem) => `edge: ${problem}`),
      ...[...bridge.notReady, ...bridge.problems].map((problem) => `bridge: ${problem}`)
    ],
    ...logs.counts()
  }
}

async function edgeStatus(line: Line) {
  try {
    return await line.edge.status()
  } catch (error) {
    // It is closing.
    if (error instanceof AppError) return null
    throw error
  }
}

export type Announcer = {
  /**
   * `lasting`: the problems of now that have lasted. `lines`: what there is to say: those that are new among them, and
   * those that are over.
   */
  note(problems: readonly string[]): { lines: string[]; lasting: string[] }
}

/** A problem counts once it has lasted `lastsMs`: some pass by themselves. Other figures in it don't make it another one. */
export function createAnnouncer(options: { lastsMs: number; clockMs: () => number }): Announcer {
  const known = new Map<string, { text: string; sinceMs: number; told: boolean }>()
  return {
    note(problems) {
      const nowMs = options.clockMs()
      const lines: string[] = []
      const lasting: string[] = []
      const present = new Map(problems.map((text) => [text.replace(/\d[\d.:TZ-]*/g, '#'), text]))
      for (const [key, text] of present) {
        const problem = known.get(key) ?? { text, sinceMs: nowMs, told: false }
        known.set(key, problem)
        if (nowMs - problem.sinceMs < options.lastsMs) continue
        if (!problem.told) lines.push(`problem: ${text}`)
        problem.told = true
        lasting.push(text)
      }
      for (const [key, { text, told }] of known) {
        if (present.has(key)) continue
        known.delete(key)
        if (told) lines.push(`over: ${text}`)
      }
      return { lines, lasting }
    }
  }
}
