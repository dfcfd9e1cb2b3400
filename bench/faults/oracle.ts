// The oracle's process as a fault sees it.
import { createInterface } from 'node:readline'
import { z } from 'zod'
import type { OracleOptions } from '../oracle/publisher.ts'
import { startProgram } from './program.ts'
import { until } from './until.ts'

export type Oracle = {
  journal: string
  accepted(): number
  /** When the first message was accepted on a connection made after `sinceMs` (wall clock), ms; waits for it. */
  firstAfter(sinceMs: number): Promise<number>
  /** Nothing new any more; resolves when all that was sent is accepted. */
  finish(): Promise<void>
  kill(): Promise<void>
}

const said = z.discriminatedUnion('event', [
  z.object({ event: z.literal('first'), client: z.string(), atMs: z.number() }),
  z.object({ event: z.literal('progress'), sent: z.int(), accepted: z.int() }),
  z.object({ event: z.literal('done'), sent: z.int(), accepted: z.int() })
])

const FIRST_MS = 30_000
const FINISH_MS = 60_000

export function startOracle(options: OracleOptions, logFile: string): Oracle {
  const program = startProgram({
    name: 'oracle',
    file: 'bench/oracle/publisher.ts',
    args: [JSON.stringify(options)],
    logFile,
    piped: true
  })
  let accepted = 0
  const firsts: number[] = []
  if (program.stdout === null) throw new Error('the oracle has no standard output')
  createInterface({ input: program.stdout }).on('line', (line) => {
    const fact = said.parse(JSON.parse(line))
    if (fact.event === 'first') firsts.push(fact.atMs)
    else accepted = fact.accepted
  })

  function demandRunning(): void {
    const end = program.ended()
    if (end !== null && end.status !== 0)
      throw new Error(`the oracle ended with ${JSON.stringify(end)}; see ${logFile}`)
  }

  return {
    journal: options.journal,
    accepted: () => accepted,
    firstAfter: (sinceMs) =>
      until('the first acceptance', FIRST_MS, () => {
        demandRunning()
        return firsts.find((atMs) => atMs >= sinceMs)
      }),
    async finish() {
      if (program.ended() === null) program.stdin?.write('finish\n')
      await until('the oracle to have all accepted', FINISH_MS, () => {
        demandRunning()
        return program.ended() !== null
      })
    },
    kill: () => program.kill()
  }
}
