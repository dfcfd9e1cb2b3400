import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { listen } from '../helpers/aedes-broker.ts'
import { connectSensor, dataFolder, NO_CLOUD, spawnEdge, startFakeBridge, startTestEdge } from '../helpers/edge.ts'
import type { EdgeProcess } from '../helpers/edge.ts'
import { waitFor } from '../helpers/wait-for.ts'

const CLOSES_WITHIN_MS = 8_000

function environment(folder: string, more: Record<string, string> = {}): Record<string, string> {
  return { EDGE_DATA_DIR: folder, EDGE_BROKER_PORT: '0', EDGE_HTTP_PORT: '0', EDGE_UPLINK_URL: NO_CLOUD, ...more }
}

async function startProcess(t: Test, env: Record<string, string>): Promise<EdgeProcess> {
  const started = await spawnEdge(t, env)
  if (started.ready === null) throw new Error(`the edge ended: ${started.stderr}`)
  return started.ready
}

/** Publishes readings, each with a timestamp of its own, as fast as they are acknowledged; `acknowledged` grows with each PUBACK. */
async function load(t: Test, url: string) {
  const acknowledged: number[] = []
  let next = 1
  let stopped = false
  for (let client = 0; client < 4; client++) {
    const sensor = await connectSensor(t, url, { reconnectPeriod: 0 })
    sensor.on('close', () => (stopped = true))
    for (let lane = 0; lane < 25; lane++) void publishOn()

    async function publishOn(): Promise<void> {
      while (!stopped) {
        const number = next++
        const payload = JSON.stringify({ value: number, timestamp: 1_700_000_000_000 + number })
        try {
          await sensor.publishAsync(`plant/${number % 50}`, payload, { qos: 1 })
        } catch {
          return
        }
        acknowledged.push(number)
      }
    }
  }
  function stop(): void {
    stopped = true
  }
  return { acknowledged, stop }
}

/** Everything in a data folder, sent to a bridge by a new edge. */
async function drain(t: Test, folder: string): Promise<number[]> {
  const bridge = await startFakeBridge(t)
  const edge = await startTestEdge(t, { dataFolder: folder, uplinkUrl: bridge.url })
  const status = await edge.when('all is drained', ({ backlog }) => backlog?.records === 0, 30_000)
  t.equal(status.balanced, true)
  return bridge.readings.map(({ value }) => Number(value)).toSorted((a, b) => a - b)
}

t.test('what was acknowledged survives kill -9, once each', async (t) => {
  const folder = dataFolder(t)
  const acknowledged: number[] = []
  const edge = await startProcess(t, environment(folder))
  const publishing = await load(t, edge.brokerUrl)
  await waitFor('some are acknowledged', () => publishing.acknowledged.length > 500)
  edge.child.kill('SIGKILL')
  await edge.exited
  publishing.stop()
  acknowledged.push(...publishing.acknowledged)
  const arrived = await drain(t, folder)
  const kept = new Set(arrived)
  t.equal(kept.size, arrived.length, 'none twice')
  t.same(
    acknowledged.filter((number) => !kept.has(number)),
    [],
    'none lost'
  )
})

t.test('SIGTERM under load ends with status 0 in time, and nothing accepted is lost', async (t) => {
  const folder = dataFolder(t)
  const edge = await startProcess(t, environment(folder))
  const publishing = await load(t, edge.brokerUrl)
  await waitFor('some are acknowledged', () => publishing.acknowledged.length > 500)
  const startMs = performance.now()
  edge.child.kill('SIGTERM')
  t.same(await edge.exited, { code: 0, signal: null })
  t.ok(performance.now() - startMs < CLOSES_WITHIN_MS)
  publishing.stop()
  const kept = new Set(await drain(t, folder))
  t.same(
    publishing.acknowledged.filter((number) => !kept.has(number)),
    []
  )
})

t.test('SIGTERM with a full buffer and a cloud that hangs ends in time', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => undefined).resume())
  const port = await listen(silent)
  t.teardown(() => silent.close())
  const folder = dataFolder(t)
  const edge = await startProcess(
    t,
    environment(folder, { EDGE_BUFFER_MAX_BYTES: '16MiB', EDGE_UPLINK_URL: `mqtt://127.0.0.1:${port}` })
  )
  const sensor = await connectSensor(t, edge.brokerUrl, { reconnectPeriod: 0 })
  for (let index = 0; index < 400; index++) sensor.publish('plant/picture', randomBytes(60_000), { qos: 1 })
  await waitFor('the buffer is full', async () => (await fetch(`${edge.httpUrl}/health/ready`)).status === 503, {
    timeoutMs: 20_000
  })
  const startMs = performance.now()
  edge.child.kill('SIGTERM')
  t.same(await edge.exited, { code: 0, signal: null })
  t.ok(performance.now() - startMs < CLOSES_WITHIN_MS)
})

t.test('the data folder and its files are this user’s alone', async (t) => {
  const folder = join(dataFolder(t), 'edge')
  await startProcess(t, environment(folder))
  t.equal(statSync(folder).mode & 0o777, 0o700)
  for (const name of ['buffer.db', 'gateway-id']) t.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name)
})

t.test('a wrong configuration prints every problem in plain text and ends with status 1', async (t) => {
  const ended = await spawnEdge(t, { EDGE_BROKER_PORT: 'abc', EDGE_UPLINK_URL: 'cloud', LOG_LEVEL: 'loud' })
  t.match(ended, { ready: null, code: 1, stdout: '' })
  if (ended.ready !== null) return
  const lines = ended.stderr.trimEnd().split('\n')
  t.equal(lines.length, 5)
  t.match(lines[0], /^edge: the configuration has 3 problem\(s\):$/)
  t.match(lines.slice(1, 4), [/^ {2}EDGE_BROKER_PORT: /, /^ {2}EDGE_UPLINK_URL: /, /^ {2}LOG_LEVEL: /])
})

t.test('what keeps the edge from starting is one clear line and what to do, and status 1', async (t) => {
  const taken = createServer()
  const port = await listen(taken)
  t.teardown(() => taken.close())
  const folder = dataFolder(t)
  await startTestEdge(t, { dataFolder: folder })
  const cases: [Record<string, string>, RegExp][] = [
    [
      environment(dataFolder(t), { EDGE_BROKER_PORT: `${port}` }),
      /^edge: .*port \d+ .*in use\n.*EDGE_BROKER_PORT.*\n$/
    ],
    [environment(dataFolder(t), { EDGE_HTTP_PORT: `${port}` }), /^edge: .*port \d+ .*in use\n.*EDGE_HTTP_PORT.*\n$/],
    [
      environment(join(folder, 'gateway-id/below')),
      /^edge: the data folder .* can't be used: .*\n.*EDGE_DATA_DIR.*\n$/
    ],
    // Where there is a /proc, it takes no entries.
    [environment('/proc/version/edge'), /^edge: the data folder .* can't be used: .*\n.*EDGE_DATA_DIR.*\n$/],
    [environment('/proc/nowhere'), /^edge: the data folder .* can't be used: .*\n.*EDGE_DATA_DIR.*\n$/],
    [environment(folder), /^edge: .*in use by another edge\n.*EDGE_DATA_DIR.*\n$/]
  ]
  for (const [env, expected] of cases) {
    const ended = await spawnEdge(t, { ...env, LOG_LEVEL: 'silent' })
    t.match(ended, { ready: null, code: 1, stderr: expected })
  }
})
