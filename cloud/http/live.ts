// `GET /health/live`: the process is worth keeping. It asks nothing of the database or the broker: a restart mends neither.
import type { FastifyInstance } from 'fastify'

export function liveRoute(app: FastifyInstance): void {
  app.get('/health/live', () => ({ status: 'live' }))
}
