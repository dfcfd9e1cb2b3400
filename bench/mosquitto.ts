// A Mosquitto broker as a child process on a free port, the plant's broker of the source bench.
import { spawn } from 'node:child_process'
import { existsSync, openSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { delimiter, join } from 'node:path'
import { freePort } from '../demo/free-port.ts'
import type { Context } from './bench.ts'
import { watchProgram } from './faults/program.ts'
import { until } from './faults/until.ts'

const FOLDERS = ['/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin']

/** Where the program is; null where it isn't installed. */
export function findProgram(name: string): string | null {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...FOLDERS]
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path)) ?? null
}

export async function startMosquitto(
  context: Context,
  program: string,
  config: readonly string[]
): Promise<{ port: number }> {
  const folder = context.folder('mosquitto')
  const port = await freePort()
  const file = join(folder, 'mosquitto.conf')
  const asRoot = process.getuid?.() === 0 ? ['user root'] : []
  writeFileSync(file, [`listener ${port} 127.0.0.1`, 'allow_anonymous true', ...asRoot, ...config, ''].join('\n'))
  const log = openSync(join(context.logFolder, 'mosquitto.log'), 'a')
  const broker = watchProgram('mosquitto', spawn(program, ['-c', file], { stdio: ['ignore', log, log] }))
  context.closers.add('mosquitto', () => broker.kill())
  await until('mosquitto to accept connections', 10_000, () => {
    if (broker.ended() !== null) throw new Error(`mosquitto ended: ${JSON.stringify(broker.ended())}`)
    return accepts(port)
  })
  return { port }
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
