// A Mosquitto broker as a child process on a free port. Where the program is missing the tests skip, with the reason.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import type { Test } from 'tap'
import { freePort } from './free-port.ts'
import { waitFor } from './wait-for.ts'

export type Mosquitto = {
  url: string
  port: number
  /** kill -9. */
  kill(): Promise<void>
  /** SIGTERM: writes its persistence file. */
  stop(): Promise<void>
  /** Starts again on the same port with the same folder. */
  restart(): Promise<void>
}

const program = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin']
  .map((folder) => join(folder, 'mosquitto'))
  .find((path) => existsSync(path))

/** For tap's `skip`: false, or why these tests can't run here. `MILLRACE_NO_SKIP=1` runs them all the same. */
export const skipWithoutMosquitto: string | false =
  program !== undefined || process.env.MILLRACE_NO_SKIP === '1' ? false : 'the program mosquitto is not installed'

/** `config`: more lines of mosquitto.conf, with `{folder}` for its folder. `files`: written there beforehand. */
export async function startMosquitto(
  t: Pick<Test, 'teardown'>,
  options: { config?: string[]; files?: Record<string, string>; persistence?: boolean } = {}
): Promise<Mosquitto> {
  if (program === undefined) throw new Error('the program mosquitto is not installed')
  const path = program
  const folder = mkdtempSync(join(tmpdir(), 'millrace-mosquitto-'))
  const port = await freePort()
  for (const [name, text] of Object.entries(options.files ?? {}))
    writeFileSync(join(folder, name), text, { mode: 0o644 })
  const file = join(folder, 'mosquitto.conf')
  const lines = [
    `listener ${port} 127.0.0.1`,
    'allow_anonymous true',
    ...(process.getuid?.() === 0 ? ['user root'] : []),
    ...(options.persistence === true ? ['persistence true', `persistence_location ${folder}/`] : []),
    ...(options.config ?? []).map((line) => line.replaceAll('{folder}', folder))
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  let child: ChildProcess | null = null
  let output = ''

  async function start(): Promise<void> {
    const started = spawn(path, ['-c', file], { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [started.stdout, started.stderr]) stream.on('data', (text) => (output += String(text)))
    child = started
    await waitFor('mosquitto to accept connections', () => {
      if (started.exitCode !== null) throw new Error(`mosquitto ended with ${started.exitCode}: ${output}`)
      return accepts(port)
    })
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    const ending = child
    child = null
    if (ending === null || ending.exitCode !== null || ending.signalCode !== null) return
    await new Promise<void>((resolve) => {
      ending.once('exit', () => resolve())
      ending.kill(signal)
    })
  }

  t.teardown(async () => {
    await end('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  await start()
  return {
    url: `mqtt://127.0.0.1:${port}`,
    port,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    restart: start
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
