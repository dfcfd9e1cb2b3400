// The edge's HTTP face: health, metrics and the local page. GET and HEAD only; it changes nothing and shows no secrets.
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { AppError, codeOf, messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { LatestValues } from '../latest.ts'
import type { LocalStatus } from '../status.ts'
import { errorAnswer } from './answer.ts'
import type { Answer, Route } from './answer.ts'
import { healthRoute, liveRoute, readyRoute } from './health.ts'
import { metricsRoute } from './metrics.ts'
import { pageRoute } from './page.ts'

export type EdgeHttp = { port: number; close(): Promise<void> }

const LIMITS = {
  maxHeaderSize: 8 * 1_024,
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  keepAliveTimeout: 10_000,
  connectionsCheckingInterval: 1_000
}
const MAX_CONNECTIONS = 100

/** Nothing is loaded from elsewhere, framed, or guessed at; the page loosens the first for its own inline parts. */
const SECURITY_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY'
}

/** @throws AppError `port_in_use` and other reasons why the port can't be listened on. */
export async function openHttp(options: {
  host: string
  port: number
  status: () => Promise<LocalStatus>
  isLive: () => boolean
  latest: Pick<LatestValues, 'all'>
  log: Log
}): Promise<EdgeHttp> {
  const { log, status } = options
  const routes = new Map<string, Route>([
    ['/', pageRoute()],
    ['/health', healthRoute(status, options.latest)],
    ['/health/live', liveRoute(options.isLive)],
    ['/health/ready', readyRoute(status)],
    ['/metrics', metricsRoute(status)]
  ])

  async function answer(request: IncomingMessage): Promise<Answer> {
    const path = (request.url ?? '').split('?', 1)[0] ?? ''
    const route = routes.get(path)
    if (route === undefined) return errorAnswer(404, 'not_found', `there are ${[...routes.keys()].join(', ')}`)
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return {
        ...errorAnswer(405, 'method_not_allowed', 'only GET and HEAD are answered'),
        headers: { allow: 'GET, HEAD' }
      }
    }
    try {
      return await route()
    } catch (error) {
      log.error({ err: error, path }, 'a request failed')
      return errorAnswer(500, 'internal', 'the request failed; the log says why')
    }
  }

  const server = createServer(LIMITS, (request, response) => {
    void answer(request).then((made) => send(request, response, made))
  })
  server.maxConnections = MAX_CONNECTIONS
  const port = await listen(server, options.host, options.port)
  server.on('error', (error) => log.warn({ err: error }, 'a connection was not taken'))
  log.info({ host: options.host, port }, 'health and page are served')

  return {
    port,
    close() {
      return new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    }
  }
}

function send(request: IncomingMessage, response: ServerResponse, answer: Answer): void {
  response.writeHead(answer.status, {
    ...SECURITY_HEADERS,
    ...answer.headers,
    'content-type': answer.contentType,
    'content-length': Buffer.byteLength(answer.body)
  })
  response.end(request.method === 'HEAD' ? undefined : answer.body)
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    function refuse(error: Error): void {
      const inUse = codeOf(error) === 'EADDRINUSE'
      const message = inUse
        ? `the port ${port} for health and page on ${host} is in use`
        : `health and page can't be served on ${host}:${port}: ${messageOf(error)}`
      reject(new AppError('port_in_use', message, { hint: 'set EDGE_HTTP_PORT and EDGE_HTTP_HOST', cause: error }))
    }
    server.once('error', refuse)
    server.listen(port, host, () => {
      server.off('error', refuse)
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}
