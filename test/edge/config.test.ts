import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { edgeConfig, readEdgeSettings } from '../../edge/config.ts'
import { AppError } from '../../shared/errors.ts'

function problemsOf(env: Record<string, string>): string[] {
  try {
    readEdgeSettings(env)
    return []
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return error.message
      .split('\n')
      .slice(1)
      .map((line) => line.trim())
  }
}

t.test('with nothing set the edge collects on its own', async (t) => {
  t.same(readEdgeSettings({}), {
    gatewayId: null,
    dataFolder: './data/edge',
    broker: { host: '127.0.0.1', port: 1_883 },
    sources: { urls: [], topics: ['#'] },
    sensorPrefix: '',
    uplinkUrl: 'mqtt://127.0.0.1:1884',
    http: { host: '127.0.0.1', port: 8_081 },
    buffer: {
      maxBytes: 4_294_967_296,
      maxBatchBytes: 100_000,
      lingerMs: 200,
      dedupeWindowMs: 3_600_000,
      keepAckedMs: 3_600_000
    },
    commitWindowMs: 20,
    log: { level: 'info', file: null }
  })
})

t.test('every variable is taken', async (t) => {
  const settings = readEdgeSettings({
    EDGE_GATEWAY_ID: 'hall-3',
    EDGE_DATA_DIR: '/var/lib/millrace',
    EDGE_BROKER: 'off',
    EDGE_SOURCE_URLS: 'mqtt://a:1883, mqtts://u:p@b',
    EDGE_SOURCE_TOPICS: 'plant/+/temperature,hall/#',
    EDGE_SENSOR_PREFIX: 'hall-3/',
    EDGE_UPLINK_URL: 'mqtts://cloud.example:8883',
    EDGE_HTTP_HOST: '::1',
    EDGE_HTTP_PORT: '0',
    EDGE_BUFFER_MAX_BYTES: '500MB',
    EDGE_BUFFER_WHEN_FULL: 'reject',
    EDGE_BATCH_MAX_BYTES: '10kB',
    EDGE_COMMIT_WINDOW_MS: '0',
    EDGE_LINGER_MS: '2s',
    EDGE_DEDUPE_WINDOW_MS: '30m',
    EDGE_KEEP_ACKED_MS: '0',
    LOG_LEVEL: 'debug',
    LOG_FILE: '/var/log/edge.log'
  })
  t.match(settings, {
    gatewayId: 'hall-3',
    dataFolder: '/var/lib/millrace',
    broker: null,
    sources: { urls: ['mqtt://a:1883', 'mqtts://u:p@b'], topics: ['plant/+/temperature', 'hall/#'] },
    sensorPrefix: 'hall-3/',
    uplinkUrl: 'mqtts://cloud.example:8883',
    http: { host: '::1', port: 0 },
    buffer: {
      maxBytes: 500_000_000,
      maxBatchBytes: 10_000,
      lingerMs: 2_000,
      dedupeWindowMs: 1_800_000,
      keepAckedMs: 0
    },
    commitWindowMs: 0,
    log: { level: 'debug', file: '/var/log/edge.log' }
  })
})

t.test('an empty variable counts as not set', async (t) => {
  t.same(
    readEdgeSettings(Object.fromEntries(Object.keys(edgeConfig.shape).map((name) => [name, '']))),
    readEdgeSettings({})
  )
})

t.test('every problem is named at once, each with its variable', async (t) => {
  const wrong = {
    EDGE_GATEWAY_ID: 'Hall 3',
    EDGE_BROKER: 'yes',
    EDGE_BROKER_HOST: 'not a host',
    EDGE_BROKER_PORT: '70000',
    EDGE_SOURCE_URLS: 'mqtt://a,b:1883',
    EDGE_SOURCE_TOPICS: 'a/#/b',
    EDGE_SENSOR_PREFIX: 'a+b',
    EDGE_UPLINK_URL: 'http://cloud',
    EDGE_HTTP_HOST: 'x y',
    EDGE_HTTP_PORT: '8o81',
    EDGE_BUFFER_MAX_BYTES: '1MB',
    EDGE_BUFFER_WHEN_FULL: 'evict-oldest',
    EDGE_BATCH_MAX_BYTES: '300kB',
    EDGE_COMMIT_WINDOW_MS: '1h',
    EDGE_LINGER_MS: 'soon',
    EDGE_DEDUPE_WINDOW_MS: '8d',
    EDGE_KEEP_ACKED_MS: '-1',
    LOG_LEVEL: 'loud'
  }
  const problems = problemsOf(wrong)
  t.same(
    problems.map((problem) => problem.split(':')[0]),
    Object.keys(wrong)
  )
  t.ok(
    problems.includes('EDGE_BUFFER_WHEN_FULL: evict-oldest comes with a later version; only reject is available now')
  )
  t.ok(problems.includes('EDGE_BUFFER_MAX_BYTES: must be 16MiB to 1TiB'))
})

t.test('bounds are part of what is allowed', async (t) => {
  const within: Record<string, [string, string]> = {
    EDGE_BUFFER_MAX_BYTES: ['16MiB', '1TiB'],
    EDGE_BATCH_MAX_BYTES: ['10kB', '200kB'],
    EDGE_COMMIT_WINDOW_MS: ['0', '5s'],
    EDGE_LINGER_MS: ['0', '60s'],
    EDGE_DEDUPE_WINDOW_MS: ['0', '7d'],
    EDGE_KEEP_ACKED_MS: ['0', '7d']
  }
  for (const [name, texts] of Object.entries(within))
    for (const text of texts) t.same(problemsOf({ [name]: text }), [], `${name}=${text}`)
  const beyond = {
    EDGE_BUFFER_MAX_BYTES: '16777215',
    EDGE_BATCH_MAX_BYTES: '9999',
    EDGE_COMMIT_WINDOW_MS: '5001',
    EDGE_LINGER_MS: '60001',
    EDGE_DEDUPE_WINDOW_MS: '604800001',
    EDGE_KEEP_ACKED_MS: '604800001'
  }
  for (const [name, text] of Object.entries(beyond)) t.equal(problemsOf({ [name]: text }).length, 1, `${name}=${text}`)
})

t.test('a password in a wrong URL is not shown', async (t) => {
  const problems = problemsOf({
    EDGE_UPLINK_URL: 'http://user:hunter2@cloud',
    EDGE_SOURCE_URLS: 'ftp://user:hunter2@b'
  })
  t.equal(problems.length, 2)
  t.notMatch(problems.join(), /hunter2/)
})

t.test('a URL with its password can come from a file', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-config-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'uplink')
  writeFileSync(file, 'mqtts://user:hunter2@cloud\n')
  t.equal(readEdgeSettings({ EDGE_UPLINK_URL_FILE: file }).uplinkUrl, 'mqtts://user:hunter2@cloud')
  t.match(problemsOf({ EDGE_UPLINK_URL_FILE: join(folder, 'absent') }), [/^EDGE_UPLINK_URL_FILE: can't be read/])
})
