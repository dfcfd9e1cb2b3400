// The bridge's HTTP face, apart from the process: routes, request ids, errors. GET and HEAD only; it changes nothing.
//
// Guarantees: no route waits for the database or the broker; an error shows nothing of the inside; every response bears
// its request id.
import fastify, { LogController } from 'fastify'
import type { FastifyBaseLogger, FastifyError, FastifyInstance } from 'fastify'
import type { Log } from '../../shared/log.ts'
import type { BridgeReport } from '../status.ts'
import { databaseRoute } from './database.ts'
import type { ConfiguredPolicies } from './database.ts'
import { healthRoute } from './health.ts'
import { liveRoute } from './live.ts'
import { metricsRoute } from './metrics.ts'
import { pageRoute } from './page.ts'
import { readyRoute } from './ready.ts'
import { requestIdOf } from './request-id.ts'

const BODY_LIMIT_BYTES = 65_536
const REQUEST_TIMEOUT_MS = 10_000
const KEEP_ALIVE_MS = 10_000
const MAX_HEADER_BYTES = 8_192
const MAX_PARAM_LENGTH = 256

/** Nothing is loaded from elsewhere, framed, or guessed at; the page loosens the first for its own parts. */
const SECURITY_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY'
}

export type AppParts = { report: () => BridgeReport; policies: ConfiguredPolicies; log: Log }

export function buildApp({ report, policies, log }: AppParts): FastifyInstance {
  const loggerInstance: FastifyBaseLogger = log
  const app = fastify({
    http: { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: REQUEST_TIMEOUT_MS },
    bodyLimit: BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    forceCloseConnections: true,
    trustProxy: false,
    requestIdHeader: false,
    genReqId: requestIdOf,
    logController: new LogController({ requestIdLogLabel: 'requestId', disableRequestLogging: true }),
    loggerInstance
  })

  app.addHook('onRequest', async (request, reply) => {
    reply.headers(SECURITY_HEADERS).header('x-request-id', request.id)
  })
  app.addHook('onResponse', async (request, reply) => {
    const tookMs = Math.round(reply.elapsedTime)
    request.log.debug(
      { method: request.method, url: request.url, status: reply.statusCode, tookMs },
      'request answered'
    )
  })
  app.setNotFoundHandler((_request, reply) => {
    reply.code(404)
    return reply.send({
      error: 'not_found',
      message: 'there is /, /health, /health/live, /health/ready, /health/db and /metrics'
    })
  })
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const status = error.statusCode ?? 500
    if (status >= 400 && status < 500) {
      return reply.code(status).send({ error: 'bad_request', message: error.message })
    }
    request.log.error({ err: error, url: request.url }, 'a request failed')
    return reply
      .code(500)
      .send({ error: 'internal', message: `the request failed; the log says why under ${request.id}` })
  })

  healthRoute(app, report)
  liveRoute(app)
  readyRoute(app, report)
  databaseRoute(app, report, policies)
  metricsRoute(app, report)
  pageRoute(app)
  return app
}
