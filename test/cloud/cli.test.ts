import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { createChain, ramp } from '../helpers/batches.ts'
import { connectGateway, migrateDatabase, startTestBridge, whenReady } from '../helpers/bridge.ts'
import { freePort } from '../helpers/free-port.ts'
import { testDatabase } from '../helpers/postgres.ts'
import { waitFor } from '../helpers/wait-for.ts'

const CLOUD = join(import.meta.dirname, '..', '..', 'cloud')

type Run = { status: number | null; out: string; err: string }

function start(program: string, args: string[], options: { env?: Record<string, string>; cwd: string }) {
  const env = { PATH: process.env['PATH'] ?? '', ...options.env }
  const child = spawn(process.execPath, [join(CLOUD, program), ...args], { env, cwd: options.cwd, stdio: 'pipe' })
  const run: Run = { status: null, out: '', err: '' }
  child.stdout.on('data', (chunk) => {
    run.out += String(chunk)
  })
  child.stderr.on('data', (chunk) => {
    run.err += String(chunk)
  })
  const ended = new Promise<Run>((resolve) => {
    child.on('close', (status) => resolve({ ...run, status }))
  })
  return { child, run, ended }
}

/** An empty folder to run in, so that no demo is found. */
function emptyFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-cli-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function filledDatabase(t: Test) {
  const { url } = await testDatabase(t)
  await migrateDatabase(url)
  const bridge = await startTestBridge(t, { databaseUrl: url })
  await whenReady(bridge)
  const gateway = await connectGateway(t, bridge.brokerUrl, 'press-hall')
  const chain = createChain('press-hall')
  await gateway.send(chain.readings(ramp(6, { sensors: 2, prefix: 'hall_1/press-' })).wire)
  await gateway.send(
    chain.readings([{ sensor: 'hallx1/text', timestampUs: 1_768_435_200_123_456, value: 'on\nfire', unit: '°C' }]).wire
  )
  await gateway.send(
    chain.events([
      { id: 'e1', task: 'T-1001', title: 'Replace the bearing', equipment: 'press-07' },
      { id: 'e2', task: 'T-1001', state: 'in_progress' },
      { id: 'e3', task: 'T-1002' }
    ]).wire
  )
  return url
}

t.test('rows and tasks are shown as people read them', async (t) => {
  const url = await filledDatabase(t)
  const cwd = emptyFolder(t)
  const run = (program: string, ...args: string[]) => start(program, args, { env: { DATABASE_URL: url }, cwd }).ended

  const one = await run('rows.ts', '--sensor', 'hall_1/press-1', '--limit', '2')
  t.same(one.err, '')
  t.same(one.out.split('\n'), [
    'timestamp (UTC)              sensor          value  unit  quality  received (UTC)',
    '2026-01-15T00:00:02.000000Z  hall_1/press-1   1.25            192  2026-01-15T00:00:00.000000Z',
    '2026-01-15T00:00:01.000000Z  hall_1/press-1   0.75            192  2026-01-15T00:00:00.000000Z',
    ''
  ])
  const wild = await run('rows.ts', '--sensor', 'hall_1/*', '--limit', '100', '--json')
  t.equal(JSON.parse(wild.out).length, 6, 'an underscore is itself')
  const both = await run('rows.ts', '--sensor', '*-0', '--sensor', '*text', '--json')
  t.equal(JSON.parse(both.out).length, 4)
  t.match(both.out, /"timestamp": "2026-01-15T00:00:00.123456Z"/, 'to the microsecond')
  const all = await run('rows.ts', '--limit', '3')
  t.equal(all.out.trimEnd().split('\n').length, 4)
  t.match((await run('rows.ts', '--sensor', 'hallx1/text')).out, /"on\\nfire" +°C/, 'no line is broken by a value')
  t.equal((await run('rows.ts', '--sensor', 'nobody')).out, 'no readings of nobody\n')

  const tasks = await run('tasks.ts')
  t.match(tasks.out, /^task +gateway +state +equipment +title +opened \(UTC\) +updated \(UTC\) +changes\n/)
  t.match(tasks.out, /^T-1001 +press-hall +in_progress +press-07 +Replace the bearing .* 2$/m)
  t.match(tasks.out, /^T-1002 +press-hall +pending /m)
  t.notMatch((await run('tasks.ts', '--state', 'pending')).out, /T-1001/)
})

t.test('rows and tasks say in one line what is wrong', async (t) => {
  const { url } = await testDatabase(t)
  const cwd = emptyFolder(t)
  const port = await freePort()
  const cases = [
    { args: [], env: {}, says: /no database to look at; set DATABASE_URL, or start the demo with npm start/ },
    {
      args: [],
      env: { DATABASE_URL: `postgres://127.0.0.1:${port}/x` },
      says: /no connection to .*ECONNREFUSED.*; check that/
    },
    { args: [], env: { DATABASE_URL: url }, says: /the database has no tables yet; run npm run migrate/ },
    { args: ['--limit', 'many'], env: { DATABASE_URL: url }, says: /--limit is "many", must be 1 to 100000/ },
    { args: ['--colour'], env: { DATABASE_URL: url }, says: /Unknown option '--colour'.*; usage: npm run / }
  ]
  for (const program of ['rows.ts', 'tasks.ts']) {
    for (const { args, env, says } of cases) {
      const { status, out, err } = await start(program, args, { env, cwd }).ended
      t.match(err, says)
      t.equal(err.trimEnd().split('\n').length, 1, err)
      t.same({ status, out }, { status: 1, out: '' })
    }
  }
})

t.test('without DATABASE_URL the running demo’s database is looked at', async (t) => {
  const url = await filledDatabase(t)
  const cwd = emptyFolder(t)
  mkdirSync(join(cwd, 'data', 'demo'), { recursive: true })
  writeFileSync(join(cwd, 'data', 'demo', 'database-url'), `${url}\n`)
  t.match((await start('rows.ts', ['--limit', '1'], { cwd }).ended).out, /hall_1\/press-1 +1\.25/)
  writeFileSync(join(cwd, 'data', 'demo', 'database-url'), `postgres://127.0.0.1:${await freePort()}/x`)
  const gone = await start('rows.ts', [], { cwd }).ended
  t.match(gone.err, /the demo does not seem to run: start it with npm start/)
  t.equal(gone.status, 1)
})

t.test('a wrong configuration of the bridge is told whole, with the variables’ names', async (t) => {
  const env = {
    DATABASE_URL: 'mysql://user:hidden@db/plant',
    BRIDGE_BROKER_URL: 'http://broker',
    BRIDGE_BROKER_PORT: '70000',
    BRIDGE_HTTP_HOST: 'a b',
    BRIDGE_HTTP_PORT: 'eighty',
    LOG_LEVEL: 'loud',
    RETENTION_DAYS: '-1',
    COMPRESS_AFTER_DAYS: 'soon'
  }
  const { status, out, err } = await start('main.ts', [], { env, cwd: emptyFolder(t) }).ended
  t.equal(status, 1)
  t.equal(out, '')
  for (const name of Object.keys(env)) t.match(err, new RegExp(`^  ${name}: `, 'm'))
  t.match(err, /has 8 problem\(s\)/)
  t.notMatch(err, /hidden|at .*\.ts/, 'neither password nor stack')
  const missing = await start('main.ts', [], { cwd: emptyFolder(t) }).ended
  t.match(missing.err, /DATABASE_URL: is required and not set/)
})

t.test('the bridge as a process serves, names a port in use, and ends in order on SIGTERM', async (t) => {
  const { url } = await testDatabase(t)
  const cwd = emptyFolder(t)
  const httpPort = await freePort()
  const env = { DATABASE_URL: url, BRIDGE_HTTP_PORT: String(httpPort), BRIDGE_BROKER_PORT: '0' }
  const first = start('main.ts', [], { env, cwd })
  t.teardown(() => first.child.kill('SIGKILL'))
  await waitFor('the bridge to run', () => first.run.out.includes('bridge runs'))
  t.equal((await fetch(`http://127.0.0.1:${httpPort}/health/live`)).status, 200)
  const second = await start('main.ts', [], { env: { ...env, LOG_LEVEL: 'silent' }, cwd }).ended
  t.equal(second.status, 1)
  t.match(second.err, new RegExp(`port ${httpPort} for health and page on 127.0.0.1 is in use`))
  t.match(second.err, /BRIDGE_HTTP_PORT/)
  const began = performance.now()
  first.child.kill('SIGTERM')
  t.equal((await first.ended).status, 0)
  t.ok(performance.now() - began < 8_000)
  t.same(first.run.err, '')
})
