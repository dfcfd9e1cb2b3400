// The processes under test: each apart, killed by its id, none left behind.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const CHECKOUT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** How long a program may take to end in order before that is a failure. */
export const STOP_MS = 10_000

export type Program = {
  pid: number
  /** Null while it runs. */
  ended(): { status: number | null; signal: string | null } | null
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>
  /** SIGTERM. @throws Error when it doesn't end with status 0 within `STOP_MS`. */
  stop(): Promise<void>
  stdin: ChildProcess['stdin']
  stdout: ChildProcess['stdout']
}

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** How many of the programs started here still run. */
export function leftRunning(): number {
  return running.size
}

/**
 * Starts a program of the checkout under Node.js, with nothing of our own environment but what every program needs.
 * What it says goes to `logFile`, standard output only when it isn't `piped`.
 */
export function startProgram(options: {
  name: string
  /** Path below the checkout. */
  file: string
  args?: string[]
  env?: Record<string, string>
  logFile: string
  piped?: boolean
}): Program {
  const log = openSync(options.logFile, 'a')
  const inherited = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'SystemRoot'].map((name) => [name, process.env[name]])
  const child = spawn(process.execPath, [join(CHECKOUT, options.file), ...(options.args ?? [])], {
    cwd: CHECKOUT,
    env: { ...Object.fromEntries(inherited), ...options.env },
    stdio: options.piped === true ? ['pipe', 'pipe', log] : ['ignore', log, log]
  })
  closeSync(log)
  return watchProgram(options.name, child)
}

/** Takes over a child process. */
export function watchProgram(name: string, child: ChildProcess): Program {
  let end: { status: number | null; signal: string | null } | null = null
  running.add(child)
  const ending = new Promise<void>((resolve) => {
    child.once('error', () => {
      end ??= { status: null, signal: 'not started' }
      running.delete(child)
      resolve()
    })
    child.once('exit', (status, signal) => {
      end ??= { status, signal }
      running.delete(child)
      resolve()
    })
  })
  return {
    pid: child.pid ?? 0,
    ended: () => end,
    async kill() {
      if (end === null) child.kill('SIGKILL')
      await ending
    },
    async stop() {
      if (end === null) child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      await ending
      clearTimeout(late)
      if (end?.status === 0) return
      const how = end?.signal === 'SIGKILL' ? `did not end within ${STOP_MS} ms` : `ended with ${JSON.stringify(end)}`
      throw new Error(`${name} ${how}`)
    },
    stdin: child.stdin,
    stdout: child.stdout
  }
}
