// A Mosquitto broker as a process that can be killed and started again on the same port, with its default persistence: none.
import { spawn } from 'node:child_process'
import { existsSync, openSync, closeSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { delimiter, join } from 'node:path'
import { freePort } from '../../demo/free-port.ts'
import { watchProgram } from './program.ts'
import type { Program } from './program.ts'
import { until } from './until.ts'

export type Mosquitto = {
  url: string
  start(): Promise<void>
  kill(): Promise<void>
}

const START_MS = 10_000

const program = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin']
  .map((folder) => join(folder, 'mosquitto'))
  .find((path) => existsSync(path))

export function missingMosquitto(): string | null {
  return program === undefined ? 'the program mosquitto is not installed' : null
}

export async function createMosquitto(folder: string): Promise<Mosquitto> {
  if (program === undefined) throw new Error('the program mosquitto is not installed')
  const path = program
  const port = await freePort()
  const file = join(folder, 'mosquitto.conf')
  const lines = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'max_inflight_messages 1000']
  if (process.getuid?.() === 0) lines.push('user root')
  writeFileSync(file, `${lines.join('\n')}\n`)
  let running: Program | null = null
  return {
    url: `mqtt://127.0.0.1:${port}`,
    async start() {
      const log = openSync(join(folder, 'mosquitto.log'), 'a')
      const started = watchProgram('mosquitto', spawn(path, ['-c', file], { stdio: ['ignore', log, log] }))
      closeSync(log)
      running = started
      await until('mosquitto to accept connections', START_MS, () => {
        if (started.ended() !== null) throw new Error(`mosquitto ended with ${JSON.stringify(started.ended())}`)
        return accepts(port)
      })
    },
    async kill() {
      await running?.kill()
      running = null
    }
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
