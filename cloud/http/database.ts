// `GET /health/db`: which engine and versions, the state of the schema, what is set for old readings. 503 when not usable.
import type { FastifyInstance } from 'fastify'
import type { BridgeReport } from '../status.ts'
import { isLocal } from './access.ts'

export type ConfiguredPolicies = { retentionDays: number; compressAfterDays: number }

export function databaseRoute(app: FastifyInstance, report: () => BridgeReport, configured: ConfiguredPolicies): void {
  app.get('/health/db', (request, reply) => {
    const { database } = report()
    const usable = database.state === 'up' && database.schema?.state === 'current'
    reply.code(usable ? 200 : 503)
    if (!isLocal(request.raw)) return { status: usable ? 'ok' : 'failing' }
    const { policies, ...rest } = database
    return { status: usable ? 'ok' : 'failing', ...rest, policies: { configured, set: policies } }
  })
}
