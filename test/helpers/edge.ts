// An edge in this process on free ports and a folder of its own, and what stands around it: sensors, and a cloud's broker with
// a bridge that keeps batches in memory and answers them by their digest.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt from 'mqtt'
import type { IClientOptions, MqttClient } from 'mqtt'
import { generate, parser } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import type { Test } from 'tap'
import { readEdgeSettings } from '../../edge/config.ts'
import type { EdgeSettings } from '../../edge/config.ts'
import { startEdge } from '../../edge/edge.ts'
import type { Edge } from '../../edge/edge.ts'
import type { LocalStatus } from '../../edge/status.ts'
import type { Ack } from '../../shared/ack.ts'
import { valueAt } from '../../shared/batch/columns.ts'
import { hexOf, openBody, openEnvelope } from '../../shared/batch/envelope.ts'
import type { Envelope } from '../../shared/batch/envelope.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import { silentLog } from '../../shared/log.ts'
import type { Reject, Value } from '../../shared/reading.ts'
import { filterOf, topicOf } from '../../shared/topics.ts'
import { startAedes } from './aedes-broker.ts'
import type { AedesBroker } from './aedes-broker.ts'
import { waitFor } from './wait-for.ts'

type Teardown = Pick<Test, 'teardown'>

/** An uplink that nobody answers. */
export const NO_CLOUD = 'mqtt://127.0.0.1:9'

export function dataFolder(t: Teardown): string {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-edge-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export type TestEdge = Edge & {
  settings: EdgeSettings
  brokerUrl: string
  /** What a path of the edge's HTTP face answers. */
  get(path: string, init?: RequestInit): Promise<Response>
  /** The status, once it fulfils a condition. */
  when(what: string, condition: (status: LocalStatus) => boolean, timeoutMs?: number): Promise<LocalStatus>
}

export async function startTestEdge(
  t: Teardown,
  overrides: Partial<EdgeSettings> = {},
  clock: { now?: () => number } = {}
): Promise<TestEdge> {
  const quick = { EDGE_LINGER_MS: '10', EDGE_BROKER_PORT: '0', EDGE_HTTP_PORT: '0', EDGE_UPLINK_URL: NO_CLOUD }
  const settings: EdgeSettings = {
    ...readEdgeSettings(quick),
    dataFolder: overrides.dataFolder ?? dataFolder(t),
    ...overrides
  }
  const edge = await startEdge(settings, {
    ...clock,
    log: silentLog(),
    onFatal(error) {
      throw error
    }
  })
  t.teardown(() => edge.close())
  return {
    ...edge,
    settings,
    brokerUrl: `mqtt://127.0.0.1:${edge.brokerPort ?? 0}`,
    get: (path, init) => fetch(`http://127.0.0.1:${edge.httpPort}${path}`, init),
    when(what, condition, timeoutMs = 10_000) {
      return waitFor(
        what,
        async () => {
          const status = await edge.status()
          return condition(status) ? status : null
        },
        { timeoutMs }
      )
    }
  }
}

export type EdgeProcess = {
  child: ChildProcess
  brokerUrl: string
  httpUrl: string
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

/** Runs `edge/main.ts` with nothing but these variables; `text` is all that it wrote when it ends without having been ready. */
export async function spawnEdge(
  t: Teardown,
  env: Record<string, string>
): Promise<
  { ready: EdgeProcess; text: () => string } | { ready: null; code: number | null; stdout: string; stderr: string }
> {
  const main = join(import.meta.dirname, '../../edge/main.ts')
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => (stdout += chunk))
  child.stderr.on('data', (chunk) => (stderr += chunk))
  let ended: { code: number | null; signal: NodeJS.Signals | null } | null = null
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('close', (code, signal) => {
      ended = { code, signal }
      resolve(ended)
    })
  })
  t.teardown(async () => {
    if (ended === null) child.kill('SIGKILL')
    await exited
  })
  const line = await waitFor('the edge is ready or ends', () => {
    if (ended !== null) return { ended }
    const found = stdout.split('\n').find((text) => text.includes('"edge is ready"'))
    return found === undefined ? null : { found }
  })
  if (!('found' in line)) return { ready: null, code: line.ended.code, stdout, stderr }
  const { brokerPort, httpPort }: { brokerPort: number; httpPort: number } = JSON.parse(line.found)
  return {
    ready: { child, brokerUrl: `mqtt://127.0.0.1:${brokerPort}`, httpUrl: `http://127.0.0.1:${httpPort}`, exited },
    text: () => stdout + stderr
  }
}

export async function connectSensor(t: Teardown, url: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await mqtt.connectAsync(url, { reconnectPeriod: 50, ...options })
  client.on('error', () => undefined)
  t.teardown(() => client.endAsync(true))
  return client
}

export type RawClient = {
  send(packet: Packet): void
  /** The next packet of this kind, in order of arrival. */
  next(cmd: Packet['cmd']): Promise<Packet>
  /** What has arrived and was not asked for. */
  rest(): Packet[]
  isClosed(): boolean
  close(): void
}

/** A client that sends what it is told, packet by packet; MQTT 3.1.1. */
export async function connectRaw(t: Teardown, port: number, clientId: string, clean = false): Promise<RawClient> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  const packets: Packet[] = []
  const decoder = parser({ protocolVersion: 4 })
  let closed = false
  decoder.on('packet', (packet: Packet) => packets.push(packet))
  socket.on('data', (chunk) => decoder.parse(chunk))
  socket.on('error', () => undefined)
  socket.on('close', () => (closed = true))
  t.teardown(() => socket.destroy())
  const client: RawClient = {
    send: (packet) => void socket.write(generate(packet, { protocolVersion: 4 })),
    next(cmd) {
      return waitFor(`${cmd} arrives`, () => {
        const index = packets.findIndex((packet) => packet.cmd === cmd)
        return index < 0 ? null : packets.splice(index, 1)[0]
      })
    },
    rest: () => packets,
    isClosed: () => closed,
    close: () => void socket.destroy()
  }
  client.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clientId, clean, keepalive: 60 })
  await client.next('connack')
  return client
}

export type KeptReading = { sensor: string; timestampUs: number; value: Value; quality: number }

export type FakeBridge = {
  broker: AedesBroker
  url: string
  client: MqttClient
  /** What was answered as committed: each digest once. */
  readings: KeptReading[]
  events: MaintenanceEvent[]
  rejects: Reject[]
  /** Every delivery, repeated ones included. */
  envelopes: Envelope[]
  /** From now on batches are kept unanswered, until `resume`. */
  hold(): void
  resume(): void
  /** Sends any answer. */
  answer(gateway: string, ack: Ack): void
}

/** `judge`: another answer than `committed` to a batch, or null for the usual one. */
export async function startFakeBridge(
  t: Teardown,
  judge: (envelope: Envelope) => Ack | null = () => null
): Promise<FakeBridge> {
  const broker = await startAedes(t)
  const client = await connectSensor(t, broker.url)
  const committed = new Set<string>()
  const waiting: Envelope[] = []
  let holding = false
  const bridge: FakeBridge = {
    broker,
    url: broker.url,
    client,
    readings: [],
    events: [],
    rejects: [],
    envelopes: [],
    hold() {
      holding = true
    },
    resume() {
      holding = false
      for (const envelope of waiting.splice(0)) take(envelope)
    },
    answer: (gateway, ack) => void client.publish(topicOf(gateway, 'ack'), JSON.stringify(ack), { qos: 1 })
  }

  function keep(envelope: Envelope): void {
    const body = openBody(envelope)
    if (body.kind === 'maintenance') bridge.events.push(...body.events)
    if (body.kind !== 'readings') return
    const { readings } = body
    bridge.rejects.push(...body.rejects)
    for (let index = 0; index < readings.count; index++) {
      bridge.readings.push({
        sensor: readings.sensors[readings.sensor[index] ?? 0]?.id ?? '',
        timestampUs: readings.timestampUs[index] ?? 0,
        value: valueAt(readings, index),
        quality: readings.quality[index] ?? 0
      })
    }
  }

  function take(envelope: Envelope): void {
    const verdict = judge(envelope)
    const known = committed.has(hexOf(envelope.digest))
    if (verdict === null && !known) {
      committed.add(hexOf(envelope.digest))
      keep(envelope)
    }
    bridge.answer(envelope.header.gateway, verdict ?? ackOf(envelope, known ? 'replay' : 'committed'))
  }

  client.on('message', (_topic, payload) => {
    const envelope = openEnvelope(payload)
    bridge.envelopes.push(envelope)
    if (holding) waiting.push(envelope)
    else take(envelope)
  })
  await client.subscribeAsync(filterOf('batch'), { qos: 1 })
  return bridge
}

/** The answer to a batch of which every record was stored. */
export function ackOf(envelope: Envelope, result: Ack['result'], reason: Ack['reason'] = null): Ack {
  const { epoch, lane, batch, firstSeq, lastSeq, records } = envelope.header
  const taken = result === 'committed' || result === 'replay'
  return {
    result,
    reason,
    epoch,
    lane,
    batch,
    first_seq: firstSeq,
    last_seq: lastSeq,
    digest: hexOf(envelope.digest),
    stored: taken ? records : 0,
    duplicates: 0,
    dead_letters: 0
  }
}
