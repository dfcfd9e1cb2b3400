// `GET /health`: everything at a glance. 503 when not ready, with the same content.
import type { FastifyInstance } from 'fastify'
import type { BridgeReport } from '../status.ts'
import { isLocal } from './access.ts'

/** Gateways shown; those with something to say come first. */
const SHOWN_GATEWAYS = 200

export function healthRoute(app: FastifyInstance, report: () => BridgeReport): void {
  app.get('/health', (request, reply) => {
    const { gateways, ...rest } = report()
    reply.code(rest.ready ? 200 : 503)
    if (!isLocal(request.raw)) return { status: rest.status }
    const byUrgency = [...gateways].sort((a, b) => urgency(b) - urgency(a))
    return {
      ...rest,
      gatewaysKnown: gateways.length,
      gateways: byUrgency.slice(0, SHOWN_GATEWAYS).sort((a, b) => (a.gateway < b.gateway ? -1 : 1))
    }
  })
}

function urgency({ alarm, balances, state, problems }: BridgeReport['gateways'][number]): number {
  if (alarm !== null || balances.some((balance) => balance.state === 'missing' || balance.state === 'unequal')) return 3
  if (problems.length > 0 || state === 'silent' || state === 'offline') return 2
  return state === 'online' ? 1 : 0
}
