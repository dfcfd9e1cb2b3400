import { connect } from 'node:net'
import { pino } from 'pino'
import t from 'tap'
import type { Test } from 'tap'
import { z } from 'zod'
import { buildApp } from '../../cloud/http/app.ts'
import { isLocal } from '../../cloud/http/access.ts'
import type { BridgeReport } from '../../cloud/status.ts'
import { silentLog } from '../../shared/log.ts'
import { createChain, ramp } from '../helpers/batches.ts'
import { connectGateway, migrateDatabase, startTestBridge, whenReady } from '../helpers/bridge.ts'
import { testDatabase } from '../helpers/postgres.ts'
import { waitFor } from '../helpers/wait-for.ts'

const UUID4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const health = z.looseObject({
  status: z.string(),
  gatewaysKnown: z.int(),
  gateways: z.array(z.looseObject({ gateway: z.string() }))
})

async function readyBridge(t: Test) {
  const { url } = await testDatabase(t)
  await migrateDatabase(url)
  const bridge = await startTestBridge(t, { databaseUrl: url })
  await whenReady(bridge)
  return bridge
}

/** An app whose report can't be made. */
function brokenApp(t: Test, lines: string[] = []) {
  const app = buildApp({
    report(): BridgeReport {
      throw new Error('secret inside')
    },
    policies: { retentionDays: 0, compressAfterDays: 0 },
    log: pino({ level: 'debug' }, { write: (line: string) => lines.push(line) })
  })
  t.teardown(() => app.close())
  return app
}

t.test('health shows broker, database, ingest and gateways', async (t) => {
  const bridge = await readyBridge(t)
  const gateway = await connectGateway(t, bridge.brokerUrl, 'press-hall')
  await gateway.send(createChain('press-hall').readings(ramp(12)).wire)
  await waitFor('the ledger to be looked at', () => bridge.report().gateways.length === 1)
  const answer = await fetch(`${bridge.url}/health`)
  t.equal(answer.status, 200)
  const body = health.parse(await answer.json())
  t.match(body, {
    status: 'ok',
    ready: true,
    notReady: [],
    broker: { kind: 'embedded', state: 'up' },
    database: { state: 'up', schema: { state: 'current' } },
    ingest: { state: 'running', records: { stored: 12 } },
    gatewaysKnown: 1,
    gateways: [{ gateway: 'press-hall', deadLettersOpen: 0, lastCommitAt: /^\d{4}-/ }]
  })
  t.notMatch(JSON.stringify(body), /:[^:*@/]+@/, 'no password')
})

t.test('the database’s page of health names engine, versions, schema and policies', async (t) => {
  const bridge = await readyBridge(t)
  const answer = await fetch(`${bridge.url}/health/db`)
  t.equal(answer.status, 200)
  t.match(await answer.json(), {
    status: 'ok',
    engine: { kind: /plain|apache|timescale/, serverVersion: /^\d+/ },
    schema: { version: /^\d{4}$/, state: 'current' },
    policies: { configured: { retentionDays: 0, compressAfterDays: 0 } }
  })
})

t.test('metrics have a name, a help text and a value that moves', async (t) => {
  const bridge = await readyBridge(t)
  const gateway = await connectGateway(t, bridge.brokerUrl, 'press-hall')
  await gateway.send(createChain('press-hall').readings(ramp(12)).wire)
  const answer = await fetch(`${bridge.url}/metrics`)
  t.match(answer.headers.get('content-type'), /^text\/plain/)
  const text = await answer.text()
  t.match(text, /^millrace_bridge_records_total\{result="stored"\} 12$/m)
  t.match(text, /^millrace_bridge_ready 1$/m)
  for (const line of text.split('\n').filter((line) => line !== '')) t.match(line, /^(# (HELP|TYPE) )?millrace_bridge_/)
  t.notMatch(text, /press-hall/, 'a gateway is no label')
})

t.test('the page loads nothing from elsewhere and holds no inline code', async (t) => {
  const app = brokenApp(t)
  const page = await app.inject('/')
  t.equal(page.statusCode, 200)
  t.match(
    page.headers['content-security-policy'],
    /default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'/
  )
  t.notMatch(page.body, /https?:\/\/|<script>|style="|onclick/)
  const [, script = '', style = ''] = ['', ...page.body.matchAll(/(?:src|href)="(\/[^"]+\.(?:js|css))"/g)].map(
    (found) => found[1] ?? ''
  )
  for (const path of [script, style]) t.equal((await app.inject(path)).statusCode, 200, path)
  const code = (await app.inject('/status.js')).body
  t.notMatch(code, /innerHTML|insertAdjacent|document\.write|eval\(/)
})

t.test('live asks nothing of anything', async (t) => {
  const app = brokenApp(t)
  t.equal((await app.inject('/health/live')).statusCode, 200)
})

t.test('a sane request id is taken over, another is replaced by a UUID, and it is in the log', async (t) => {
  const lines: string[] = []
  const app = brokenApp(t, lines)
  const idFor = async (given: string | undefined) => {
    const answer = await app.inject({
      url: '/health/live',
      headers: given === undefined ? {} : { 'x-request-id': given }
    })
    return String(answer.headers['x-request-id'])
  }
  for (const sane of ['a', 'order 66/b', 'x'.repeat(128)]) t.equal(await idFor(sane), sane)
  for (const insane of [undefined, '', 'x'.repeat(129), 'a\tb', 'naïve', ' ']) t.match(await idFor(insane), UUID4)
  await idFor('find-me')
  t.ok(lines.some((line) => line.includes('"requestId":"find-me"')))
})

t.test('an error shows nothing of the inside', async (t) => {
  const lines: string[] = []
  const app = brokenApp(t, lines)
  const answer = await app.inject({ url: '/health', headers: { 'x-request-id': 'the-id' } })
  t.equal(answer.statusCode, 500)
  t.same(answer.json(), { error: 'internal', message: 'the request failed; the log says why under the-id' })
  t.ok(lines.some((line) => line.includes('secret inside') && line.includes('the-id')))
  const missing = await app.inject('/nothing/here')
  t.equal(missing.statusCode, 404)
  t.match(missing.json(), { error: 'not_found' })
  t.match(missing.headers['x-request-id'], UUID4)
  t.equal((await app.inject({ method: 'POST', url: '/health', payload: '{' })).statusCode, 404)
})

t.test('beyond its own machine the bridge shows only whether it is well', async (t) => {
  const bridge = await readyBridge(t)
  const asIf: Record<string, string>[] = [
    { 'x-forwarded-for': '203.0.113.7' },
    { forwarded: 'for=203.0.113.7' },
    { via: '1.1 proxy' },
    { 'x-real-ip': '203.0.113.7' }
  ]
  for (const headers of asIf) {
    t.same(await (await fetch(`${bridge.url}/health`, { headers })).json(), { status: 'ok' })
    t.same(await (await fetch(`${bridge.url}/health/db`, { headers })).json(), { status: 'ok' })
    t.equal((await fetch(`${bridge.url}/metrics`, { headers })).status, 403)
  }
  const rebound = await raw(
    bridge.httpPort,
    'GET /metrics HTTP/1.1\r\nHost: plant.example\r\nConnection: close\r\n\r\n'
  )
  t.match(rebound, /^HTTP\/1.1 403 /, 'a page of elsewhere whose name points here')
})

t.test('loopback is told from the address of the connection, never from what the request says', (t) => {
  const from = (remoteAddress: string | undefined, headers: Record<string, string> = {}) =>
    isLocal({ headers: { host: 'localhost:8080', ...headers }, socket: { remoteAddress } })
  for (const address of ['127.0.0.1', '127.3.2.1', '::1', '::ffff:127.0.0.1']) t.ok(from(address), address)
  for (const address of ['10.0.0.1', '::2', '::ffff:10.0.0.1', '127.0.0.1.example', undefined])
    t.notOk(from(address), String(address))
  t.notOk(from('10.0.0.1', { 'x-forwarded-for': '127.0.0.1' }))
  t.notOk(from('127.0.0.1', { host: '10.0.0.1:8080' }))
  t.end()
})

t.test('a request that is never finished is ended by the server', async (t) => {
  const app = buildApp({
    report(): BridgeReport {
      throw new Error('not asked')
    },
    policies: { retentionDays: 0, compressAfterDays: 0 },
    log: silentLog()
  })
  t.teardown(() => app.close())
  t.ok(app.server.headersTimeout > 0 && app.server.headersTimeout <= 10_000)
  t.ok(app.server.requestTimeout > 0 && app.server.requestTimeout <= 10_000)
  t.end()
})

function raw(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect({ host: '127.0.0.1', port }, () => socket.write(text))
    socket.on('data', (chunk) => {
      answer += String(chunk)
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(answer))
  })
}
