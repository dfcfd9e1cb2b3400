// The bridge as a process, with its embedded broker.
import { freePort } from '../demo/free-port.ts'
import type { Context } from './bench.ts'
import { until } from './faults/until.ts'
import { startPart } from './program.ts'

export type BridgeProcess = { pid: number; stop(): Promise<void> }

const READY_TIMEOUT_MS = 30_000

/** A port that an edge can be told before the bridge is there. */
export const bridgePort = freePort

/** Resolves when it is ready. */
export async function startBridgeProcess(
  context: Context,
  options: { databaseUrl: string; brokerPort: number }
): Promise<BridgeProcess> {
  const httpPort = await freePort()
  const program = startPart(context, {
    name: 'bridge',
    file: 'cloud/main.ts',
    env: {
      DATABASE_URL: options.databaseUrl,
      BRIDGE_BROKER_PORT: String(options.brokerPort),
      BRIDGE_HTTP_PORT: String(httpPort),
      LOG_LEVEL: 'warn'
    }
  })
  await until('the bridge to be ready', READY_TIMEOUT_MS, async () => {
    if (program.ended() !== null) throw new Error(`the bridge ended: ${JSON.stringify(program.ended())}`)
    const answer = await fetch(`http://127.0.0.1:${httpPort}/health/ready`).catch(() => null)
    return answer?.ok
  })
  return { pid: program.pid, stop: () => program.stop() }
}
