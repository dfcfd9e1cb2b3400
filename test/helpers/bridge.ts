// A bridge in this process on free ports, and plain clients beside it.
import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'
import type { Test } from 'tap'
import { startBridge } from '../../cloud/bridge.ts'
import type { Bridge } from '../../cloud/bridge.ts'
import type { BridgeSettings } from '../../cloud/config.ts'
import { openDatabase } from '../../cloud/database.ts'
import { migrate } from '../../cloud/migrate.ts'
import { ack } from '../../shared/ack.ts'
import type { Ack } from '../../shared/ack.ts'
import { silentLog } from '../../shared/log.ts'
import type { Log } from '../../shared/log.ts'
import { offlineStatus } from '../../shared/status.ts'
import type { EdgeStatus } from '../../shared/status.ts'
import { topicOf } from '../../shared/topics.ts'
import { waitFor } from './wait-for.ts'

export type TestBridge = Bridge & {
  /** `http://127.0.0.1:…` */
  url: string
  /** Of its embedded broker. */
  brokerUrl: string
}

const POLICIES = { retentionDays: 0, compressAfterDays: 0 }

/** Retention is off unless given, so that readings of any time are rows. Closed when `t` ends. */
export async function startTestBridge(
  t: Pick<Test, 'teardown'>,
  overrides: Partial<BridgeSettings> & { databaseUrl: string; log?: Log; now?: () => number }
): Promise<TestBridge> {
  const { log = silentLog(), now = Date.now, ...settings } = overrides
  const bridge = await startBridge(
    {
      brokerUrl: null,
      broker: { host: '127.0.0.1', port: 0 },
      http: { host: '127.0.0.1', port: 0 },
      ...POLICIES,
      ...settings
    },
    {
      log,
      now,
      lookEveryMs: 200,
      onFatal(error) {
        throw error
      }
    }
  )
  t.teardown(bridge.close)
  return {
    ...bridge,
    url: `http://127.0.0.1:${bridge.httpPort}`,
    brokerUrl: `mqtt://127.0.0.1:${bridge.brokerPort}`
  }
}

export async function migrateDatabase(url: string): Promise<void> {
  const database = openDatabase({ url, max: 1, log: silentLog(), applicationName: 'test-migrate' })
  try {
    await database.withClient((client) => migrate({ client, log: silentLog(), policies: POLICIES }))
  } finally {
    await database.close()
  }
}

export function whenReady(bridge: Pick<Bridge, 'report'>): Promise<true> {
  return waitFor('the bridge to be ready', () => bridge.report().ready, { timeoutMs: 20_000 })
}

/** A gateway made of a plain MQTT client. */
export type PlainGateway = {
  client: MqttClient
  acks: Ack[]
  /** Publishes with QoS 1 and gives the next answer. */
  send(wire: Uint8Array): Promise<Ack>
  say(status: Partial<EdgeStatus>): Promise<void>
}

export async function connectGateway(
  t: Pick<Test, 'teardown'>,
  brokerUrl: string,
  gateway: string
): Promise<PlainGateway> {
  const client = await connectAsync(brokerUrl, { clientId: `test-${gateway}`, reconnectPeriod: 0 })
  client.on('error', () => undefined)
  t.teardown(() => client.endAsync(true))
  const acks: Ack[] = []
  client.on('message', (_topic, payload) => acks.push(ack.parse(JSON.parse(payload.toString()))))
  await client.subscribeAsync(topicOf(gateway, 'ack'), { qos: 1 })
  return {
    client,
    acks,
    async send(wire) {
      const before = acks.length
      await client.publishAsync(topicOf(gateway, 'batch'), Buffer.from(wire), { qos: 1 })
      return waitFor('an answer to the batch', () => acks[before])
    },
    async say(status) {
      const whole = { ...offlineStatus(gateway), online: true, problems: [], ...status }
      await client.publishAsync(topicOf(gateway, 'status'), JSON.stringify(whole), { qos: 1, retain: true })
    }
  }
}
