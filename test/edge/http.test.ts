import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import t from 'tap'
import { openHttp } from '../../edge/http/server.ts'
import { silentLog } from '../../shared/log.ts'
import { connectSensor, startFakeBridge, startTestEdge } from '../helpers/edge.ts'

t.test('a running edge', async (t) => {
  const bridge = await startFakeBridge(t)
  const edge = await startTestEdge(t, { uplinkUrl: bridge.url, gatewayId: 'hall-1' })
  const sensor = await connectSensor(t, edge.brokerUrl)
  await sensor.publishAsync('plant/<b>a</b>', JSON.stringify({ value: 21.5, unit: '°C', timestamp: 1_772_359_200 }), {
    qos: 1
  })
  await edge.when('it is acknowledged', ({ sums }) => sums.some(({ acknowledged }) => acknowledged === 1))

  t.test('shows the whole on /health', async (t) => {
    const response = await edge.get('/health')
    t.equal(response.status, 200)
    t.equal(response.headers.get('content-type'), 'application/json; charset=utf-8')
    t.match(await response.json(), {
      gateway: 'hall-1',
      health: 'ok',
      notReady: null,
      balanced: true,
      problems: [],
      backlog: { records: 0, bytes: 0, oldestS: 0 },
      toDrainS: 0,
      toFullS: null,
      lastAckAgeS: Number,
      disk: { usedBytes: Number, maxBytes: 4_294_967_296, freeBytes: Number },
      doors: [{ name: /^broker on/, state: 'up', messages: 1 }],
      uplink: { state: 'up', inFlight: 0, sentBatches: 1 },
      latest: {
        sensors: 1,
        values: [{ sensor: 'plant/<b>a</b>', value: 21.5, unit: '°C', timestampUs: 1_772_359_200_000_000 }]
      }
    })
  })

  t.test('is live and ready', async (t) => {
    t.same([(await edge.get('/health/live')).status, (await edge.get('/health/ready')).status], [200, 200])
  })

  t.test('gives metrics that a scraper can read', async (t) => {
    const response = await edge.get('/metrics')
    t.match(response.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
    const text = await response.text()
    const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    t.ok(samples.every((line) => /^millrace_edge_[a-z_]+(\{[^{}]*\})? -?[0-9.e+-]+$/.test(line)))
    for (const line of [
      'millrace_edge_accepted_records_total 1',
      'millrace_edge_acknowledged_records_total 1',
      'millrace_edge_backlog_records 0',
      'millrace_edge_uplink_up 1',
      'millrace_edge_health 2',
      'millrace_edge_sums_balanced 1'
    ]) {
      t.ok(samples.includes(line), line)
    }
    t.ok(
      samples.some((line) =>
        /^millrace_edge_epoch_records\{epoch="[0-9a-f]{32}",lane="readings",sum="stored"\} 1$/.test(line)
      )
    )
    t.notOk(
      samples.some((line) => line.startsWith('millrace_edge_time_to_full_seconds')),
      'what is unknown is absent'
    )
    const helped = new Set([...text.matchAll(/^# HELP (\S+) \S/gm)].map((match) => match[1]))
    t.ok(
      samples.every((line) => helped.has(line.split(/[{ ]/)[0])),
      'each has a help line'
    )
  })

  t.test('serves a page that loads nothing from elsewhere', async (t) => {
    const response = await edge.get('/')
    const page = await response.text()
    const policy = response.headers.get('content-security-policy') ?? ''
    t.equal(response.headers.get('content-type'), 'text/html; charset=utf-8')
    for (const tag of ['style', 'script']) {
      const inline = new RegExp(`<${tag}>([^]*?)</${tag}>`).exec(page)?.[1] ?? ''
      t.ok(inline.length > 500)
      t.ok(policy.includes(`${tag}-src 'sha256-${createHash('sha256').update(inline).digest('base64')}'`), tag)
    }
    t.match(policy, /default-src 'none'/)
    t.notMatch(policy, /unsafe/)
    t.notMatch(page, /https?:\/\//)
    t.notMatch(page, /innerHTML|insertAdjacentHTML|document\.write|\seval\(/)
    t.notMatch(page, /\sstyle="|\son[a-z]+="/, 'nothing that the policy would refuse')
  })

  t.test('sends security headers with every answer', async (t) => {
    for (const path of ['/', '/health', '/health/live', '/metrics', '/nowhere']) {
      const { headers } = await edge.get(path)
      t.equal(headers.get('x-content-type-options'), 'nosniff', path)
      t.match(headers.get('content-security-policy'), /frame-ancestors 'none'/, path)
      t.equal(headers.get('cache-control'), 'no-store', path)
    }
  })

  t.test('answers HEAD without a body', async (t) => {
    const response = await edge.get('/health', { method: 'HEAD' })
    t.equal(response.status, 200)
    t.equal(await response.text(), '')
  })

  t.test('answers an unknown path and another method in JSON', async (t) => {
    const unknown = await edge.get('/../etc/passwd?x=1')
    t.equal(unknown.status, 404)
    t.match(await unknown.json(), { error: 'not_found' })
    const post = await edge.get('/health', { method: 'POST', body: 'x' })
    t.equal(post.status, 405)
    t.equal(post.headers.get('allow'), 'GET, HEAD')
    t.match(await post.json(), { error: 'method_not_allowed' })
  })

  t.test('ignores the query', async (t) => {
    t.equal((await edge.get('/health/live?probe=1')).status, 200)
  })

  t.test('refuses headers over 8 kB and what isn’t HTTP', async (t) => {
    t.equal((await edge.get('/health', { headers: { 'x-long': 'a'.repeat(9_000) } })).status, 431)
    t.match(await exchange(edge.httpPort, 'rubbish\r\n\r\n'), /^HTTP\/1\.1 400/)
    t.equal((await edge.get('/health/live')).status, 200)
  })

  t.test('refuses a second one on its port, and says which variable to set', async (t) => {
    await t.rejects(startTestEdge(t, { http: { host: '127.0.0.1', port: edge.httpPort } }), {
      code: 'port_in_use',
      message: new RegExp(`${edge.httpPort}`),
      hint: /EDGE_HTTP_PORT/
    })
    await t.rejects(startTestEdge(t, { broker: { host: '127.0.0.1', port: edge.brokerPort ?? 0 } }), {
      code: 'port_in_use',
      hint: /EDGE_BROKER_PORT/
    })
  })
})

t.test('a route that fails shows nothing of the inside', async (t) => {
  const http = await openHttp({
    host: '127.0.0.1',
    port: 0,
    status: () => Promise.reject(new Error('secret: hunter2')),
    isLive: () => false,
    latest: { all: () => [] },
    log: silentLog()
  })
  t.teardown(() => http.close())
  for (const path of ['/health', '/health/ready', '/metrics']) {
    const response = await fetch(`http://127.0.0.1:${http.port}${path}`)
    t.equal(response.status, 500)
    t.same(await response.json(), { error: 'internal', message: 'the request failed; the log says why' })
  }
  const live = await fetch(`http://127.0.0.1:${http.port}/health/live`)
  t.equal(live.status, 503)
  t.match(await live.json(), { error: 'not_live' })
})

t.test('closing ends connections that are kept open', async (t) => {
  const edge = await startTestEdge(t)
  t.equal((await edge.get('/health/live')).status, 200)
  await edge.close()
  await t.rejects(edge.get('/health/live'))
})

function exchange(port: number, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port })
    let answer = ''
    socket.on('data', (chunk) => (answer += chunk))
    socket.on('error', reject)
    socket.on('close', () => resolve(answer))
    socket.write(request)
  })
}
