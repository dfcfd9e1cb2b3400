// psql as the peer: what PostgreSQL's own client takes for the same rows.
import { spawn } from 'node:child_process'

/** Runs one command; resolves with how long the whole program took, s. @throws Error with what it said */
export function runPsql(program: string, url: string, command: string): Promise<number> {
  const startMs = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn(program, [url, '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-c', command], {
      stdio: ['ignore', 'ignore', 'pipe']
    })
    let said = ''
    child.stderr.on('data', (text) => (said += String(text)))
    child.once('error', reject)
    child.once('exit', (status) => {
      if (status === 0) resolve((performance.now() - startMs) / 1_000)
      else reject(new Error(`psql ended with ${status}: ${said}`))
    })
  })
}
