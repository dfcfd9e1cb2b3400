// Puts the app on a port.
import { AppError, codeOf, messageOf } from '../../shared/errors.ts'
import { buildApp } from './app.ts'
import type { AppParts } from './app.ts'

export type BridgeHttp = { port: number; close(): Promise<void> }

const MAX_CONNECTIONS = 500

/** @throws AppError `port_in_use` and other reasons why the port can't be listened on. */
export async function openHttp(options: AppParts & { host: string; port: number }): Promise<BridgeHttp> {
  const { host, log } = options
  const app = buildApp(options)
  app.server.maxConnections = MAX_CONNECTIONS
  try {
    await app.listen({ host, port: options.port, listenTextResolver: () => 'HTTP listens' })
  } catch (error) {
    await app.close()
    const inUse = codeOf(error) === 'EADDRINUSE'
    const message = inUse
      ? `the port ${options.port} for health and page on ${host} is in use`
      : `health and page can't be served on ${host}:${options.port}: ${messageOf(error)}`
    const hint = 'stop the other program, or set BRIDGE_HTTP_HOST and BRIDGE_HTTP_PORT'
    throw new AppError('port_in_use', message, { hint, cause: error })
  }
  const address = app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : options.port
  log.info({ host, port }, 'health and page are served')
  return { port, close: () => app.close() }
}
