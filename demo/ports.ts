// The demo's ports, looked at before anything is started, so that all that are taken are named at once.
import { createServer } from 'node:net'
import { AppError, codeOf } from '../shared/errors.ts'

export type WantedPort = { variable: string; host: string; port: number; what: string }

/** Added to a taken port for the example. */
const NEXT_PORT = 1_000
const LAST_PORT = 65_535

/** @throws AppError `port_in_use` that names every port that can't be listened on, and how to choose others. */
export async function checkPorts(wanted: readonly WantedPort[]): Promise<void> {
  const found = await Promise.all(wanted.map(async (one) => ({ ...one, problem: await problemOf(one) })))
  const taken = found.filter(({ problem }) => problem !== null)
  if (taken.length === 0) return
  const list = taken.map(({ port, what, problem }) => `port ${port} for ${what} ${problem}`).join('; ')
  const others = taken.map(({ variable, port }) => `${variable}=${port + NEXT_PORT > LAST_PORT ? 0 : port + NEXT_PORT}`)
  throw new AppError('port_in_use', list, {
    hint: `end the other program, or choose other ports: ${others.join(' ')} npm start`
  })
}

function problemOf({ host, port }: WantedPort): Promise<string | null> {
  if (port === 0) return Promise.resolve(null)
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error) =>
      resolve(codeOf(error) === 'EADDRINUSE' ? 'is in use' : `can’t be used: ${error.message}`)
    )
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(null)))
  })
}
