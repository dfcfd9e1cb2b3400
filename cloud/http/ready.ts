// `GET /health/ready`: batches become rows. 503 with the reason otherwise.
import type { FastifyInstance } from 'fastify'
import type { BridgeReport } from '../status.ts'
import { isLocal } from './access.ts'

export function readyRoute(app: FastifyInstance, report: () => BridgeReport): void {
  app.get('/health/ready', (request, reply) => {
    const { ready, notReady } = report()
    if (ready) return { status: 'ready' }
    reply.code(503)
    return { error: 'not_ready', message: isLocal(request.raw) ? notReady.join('\n') : 'not ready; the log says why' }
  })
}
