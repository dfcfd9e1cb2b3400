// How long a start takes: the edge until it is ready, and `npm start` until its first row.
import { createInterface } from 'node:readline'
import type { Bench, Context } from '../bench.ts'
import { startEdgeProcess } from '../edge.ts'
import { startProgram } from '../faults/program.ts'
import { figureOf } from '../figures.ts'
import { amount } from '../load/findings.ts'
import { runLoad } from '../program.ts'

const FIRST_ROW = /first row is there/
const FIRST_ROW_TIMEOUT_MS = 60_000

export const startBench: Bench = {
  name: 'start',
  about: 'the edge’s start to ready, and npm start to the first row',
  expectedS: { once: 10, round: 8 },
  async run(context) {
    const used = context.folder('used')
    await fill(context, used)
    const fresh: number[] = []
    const again: number[] = []
    const rows: number[] = []
    for (let round = 0; round < context.rounds; round++) {
      fresh.push(await edgeSeconds(context, context.folder('edge')))
      again.push(await edgeSeconds(context, used))
      rows.push(await firstRowSeconds(context))
      context.say(`round ${round + 1}: edge ${fresh[round]?.toFixed(2)} s, first row ${rows[round]?.toFixed(1)} s`)
    }
    return {
      figures: [
        figureOf({ name: 'edge ready, new', unit: 's', rounds: fresh, target: { atMost: 1 } }),
        figureOf({ name: 'edge ready, with readings waiting', unit: 's', rounds: again, target: { atMost: 1 } }),
        figureOf({ name: 'npm start to the first row', unit: 's', rounds: rows, target: { atMost: 10 } })
      ],
      notes: ['the first row comes on a new data folder, initdb and migrations included; the packages are installed'],
      skipped: null
    }
  }
}

async function edgeSeconds(context: Context, dataFolder: string): Promise<number> {
  const edge = await startEdgeProcess(context, { dataFolder })
  await edge.stop()
  return edge.readyMs / 1_000
}

async function fill(context: Context, dataFolder: string): Promise<void> {
  const edge = await startEdgeProcess(context, { dataFolder })
  const task = { port: edge.brokerPort, readings: context.pick(1_000_000, 100_000), seed: context.seed }
  await runLoad(context, 'load/fill.ts', task, amount)
  await edge.stop()
}

/** Until its own screen says so, the bootstrap included. */
async function firstRowSeconds(context: Context): Promise<number> {
  const startMs = performance.now()
  const demo = startProgram({
    name: 'demo',
    file: 'scripts/run.mjs',
    args: ['demo/main.ts'],
    logFile: `${context.logFolder}/demo.log`,
    piped: true,
    env: {
      MILLRACE_DEMO_DIR: context.folder('demo'),
      EDGE_BROKER_PORT: '0',
      EDGE_HTTP_PORT: '0',
      BRIDGE_BROKER_PORT: '0',
      BRIDGE_HTTP_PORT: '0'
    }
  })
  context.closers.add('demo', () => demo.kill())
  if (demo.stdout === null) throw new Error('the demo has no output')
  const late = setTimeout(() => void demo.kill(), FIRST_ROW_TIMEOUT_MS)
  try {
    for await (const line of createInterface({ input: demo.stdout })) {
      if (FIRST_ROW.test(line)) return (performance.now() - startMs) / 1_000
    }
    throw new Error(`npm start showed no row within ${FIRST_ROW_TIMEOUT_MS / 1_000} s, see demo.log`)
  } finally {
    clearTimeout(late)
    await demo.stop()
  }
}
