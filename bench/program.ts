// Programs of the checkout that a bench starts: load generators and peers, which tell their findings as lines of JSON, and
// the product's own processes.
import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { basename, join } from 'node:path'
import { z } from 'zod'
import type { Context } from './bench.ts'
import { CHECKOUT, startProgram, watchProgram } from './faults/program.ts'
import type { Program } from './faults/program.ts'

const nodeFlags = new Map(
  Object.entries(
    z
      .record(z.string(), z.array(z.string()))
      .parse(JSON.parse(readFileSync(join(CHECKOUT, 'scripts', 'node-flags.json'), 'utf8')))
  )
)
/** As scripts/run.mjs has it. */
const COMPILE_CACHE = join(CHECKOUT, 'node_modules', '.cache', 'millrace')

export type Teller = {
  pid: number
  /** The next line. @throws Error when the program ends before, or the line is something else. */
  next<Schema extends z.ZodType>(schema: Schema): Promise<z.output<Schema>>
  /** A line to it. */
  ask(task: unknown): void
  /** Asks it to end; `next` gives what it still has to say. */
  stop(): void
}

/** Starts `file` (below bench/) with `task`. It ends with the bench. */
export function startTeller(context: Context, file: string, task: unknown): Teller {
  const name = basename(file, '.ts')
  const program = startProgram({
    name,
    file: join('bench', file),
    args: [JSON.stringify(task)],
    logFile: join(context.logFolder, `${name}.log`),
    piped: true
  })
  const { stdin, stdout } = program
  if (stdin === null || stdout === null) throw new Error(`${name} has no pipes`)
  stdin.on('error', () => undefined)
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
  context.closers.add(name, () => program.kill())
  return {
    pid: program.pid,
    async next(schema) {
      const line = await lines.next()
      if (line.done === true) throw new Error(`${name} ended early, see ${name}.log in ${context.logFolder}`)
      return schema.parse(JSON.parse(line.value))
    },
    ask: (line) => void stdin.write(`${JSON.stringify(line)}\n`),
    stop: () => void stdin.end()
  }
}

/** Runs a load generator to its end and gives its last line. */
export async function runLoad<Schema extends z.ZodType>(
  context: Context,
  file: string,
  task: unknown,
  schema: Schema
): Promise<z.output<Schema>> {
  return startTeller(context, file, task).next(schema)
}

/** One of the product's processes, run by Node.js as `npm run` has it run, ended with the bench. */
export function startPart(
  context: Context,
  options: { name: string; file: string; env: Record<string, string> }
): Program {
  const log = openSync(join(context.logFolder, `${options.name}.log`), 'a')
  const flags = nodeFlags.get(options.file) ?? []
  const child = spawn(process.execPath, [...flags, join(CHECKOUT, options.file)], {
    cwd: CHECKOUT,
    env: { ...inheritedEnvironment(), NODE_COMPILE_CACHE: COMPILE_CACHE, ...options.env },
    stdio: ['ignore', log, log]
  })
  closeSync(log)
  const program = watchProgram(options.name, child)
  context.closers.add(options.name, () => program.kill())
  return program
}

/** Nothing of our own environment but what every program needs. */
function inheritedEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {}
  for (const name of ['PATH', 'HOME', 'TMPDIR', 'LANG', 'SystemRoot']) {
    const value = process.env[name]
    if (value !== undefined) environment[name] = value
  }
  return environment
}
