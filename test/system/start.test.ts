import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { z } from 'zod'
import { runningServer } from '../../demo/postgres-process.ts'
import { temporaryFolder } from '../helpers/postgres.ts'
import { waitFor } from '../helpers/wait-for.ts'

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url))
const START_MS = 60_000
const STOP_MS = 10_000

t.setTimeout(2 * START_MS)

type Demo = {
  child: ChildProcess
  output(): string
  /** Waits for a line on the screen, and gives what the groups matched. */
  sees(line: RegExp, timeoutMs?: number): Promise<string[]>
  /** How it ended, once it has. */
  ended: Promise<{ status: number | null; signal: NodeJS.Signals | null }>
}

/** The test runner's own variables and the machine's would change what the programs do. */
function environment(folder: string, more: Record<string, string> = {}): Record<string, string> {
  const ports = { EDGE_BROKER_PORT: '0', EDGE_HTTP_PORT: '0', BRIDGE_BROKER_PORT: '0', BRIDGE_HTTP_PORT: '0' }
  return { PATH: process.env['PATH'] ?? '', ...ports, MILLRACE_DEMO_DIR: folder, ...more }
}

function start(t: Test, program: string, args: string[], env: Record<string, string>): Demo {
  const child = spawn(process.execPath, [program, ...args], { cwd: CHECKOUT, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  const ended = new Promise<{ status: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on('close', (status, signal) => resolve({ status, signal }))
  })
  t.teardown(async () => {
    child.kill('SIGTERM')
    await ended
  })
  return {
    child,
    output: () => output,
    async sees(line, timeoutMs = START_MS) {
      const seen = () => line.exec(output) ?? (child.exitCode === null ? null : 'ended')
      const found = await waitFor(`${line} in the output`, seen, { timeoutMs })
      if (found === 'ended') throw new Error(`it ended with ${child.exitCode} before ${line}: ${output}`)
      return [...found]
    },
    ended
  }
}

/** Runs a program to its end. */
async function run(t: Test, program: string, args: string[], env: Record<string, string>) {
  const program_ = start(t, program, args, env)
  const { status } = await program_.ended
  return { status, output: program_.output() }
}

const shownRows = z.array(z.object({ sensor_id: z.string(), value: z.number().nullable() }))

async function rowsOf(t: Test, folder: string, sensor: string) {
  const env = { PATH: process.env['PATH'] ?? '', DATABASE_URL_FILE: join(folder, 'database-url') }
  const { output } = await run(t, 'cloud/rows.ts', ['--sensor', sensor, '--limit', '100000', '--json'], env)
  return shownRows.parse(JSON.parse(output.startsWith('[') ? output : '[]'))
}

const number = (text: string | undefined) => Number((text ?? '').replaceAll(',', ''))

t.test('npm start runs the line, and a later one goes on with the same data', async (t) => {
  const folder = temporaryFolder(t, 'millrace-demo-')
  // A server that outlived a killed demo, should the test fail half way.
  const cluster = join(folder, 'postgres', 'cluster')
  t.teardown(() => {
    const lock = join(cluster, 'postmaster.pid')
    const server = existsSync(lock) ? runningServer(lock, cluster) : null
    if (server !== null) process.kill(server.pid, 'SIGQUIT')
  })
  const env = environment(folder)
  const demo = start(t, 'demo/main.ts', [], env)
  const [, host = '', port = '', topic = '', message = ''] = await demo.sees(
    /npx mqtt pub -h (\S+) -p (\d+) -q 1 -t (\S+) -m (\S+)/
  )
  const seedEnv = { ...env, EDGE_BROKER_PORT: port }

  t.test('the first row is there soon and is announced', async () => {
    await demo.sees(/The first row is there, [\d.]+ s after the start: plant\/\S+ = \S+/)
  })

  t.test('the command that the screen shows makes a row', async (t) => {
    const mqtt = await run(
      t,
      'node_modules/mqtt/build/bin/mqtt.js',
      ['pub', '-h', host, '-p', port, '-q', '1', '-t', topic, '-m', message],
      env
    )
    t.equal(mqtt.status, 0, mqtt.output)
    const rows = await waitFor('the row', async () => {
      const found = await rowsOf(t, folder, topic)
      return found.length > 0 && found
    })
    t.same(rows, [{ sensor_id: topic, value: 21.5 }])
  })

  t.test('both pages are served', async (t) => {
    const pages = [...demo.output().matchAll(/page (http:\S+)/g)].map(([, url = '']) => url)
    t.equal(pages.length, 2)
    for (const url of pages) t.match(await (await fetch(url)).text(), /<html/i, url)
  })

  t.test('a work order of the plant is among the tasks', async (t) => {
    const tasksEnv = { PATH: process.env['PATH'] ?? '', DATABASE_URL_FILE: join(folder, 'database-url') }
    await waitFor('a task', async () => /WO-\w+ +demo/.test((await run(t, 'cloud/tasks.ts', [], tasksEnv)).output), {
      timeoutMs: 20_000
    })
  })

  t.test('seed publishes through the line and ends when all are rows', async (t) => {
    const seed = await run(t, 'demo/seed.ts', ['--sensors', '25', '--readings', '40'], seedEnv)
    t.equal(seed.status, 0, seed.output)
    t.match(seed.output, /all 1,000 are rows after [\d.]+ s/)
    t.equal((await rowsOf(t, folder, 'seed/plant-1/line-1/hall/temperature')).length, 40)
    t.equal((await rowsOf(t, folder, 'seed/plant-2/line-1/press-01/temperature')).length, 40)
  })

  t.test('seed is told of an edge that takes no connections', async (t) => {
    const seed = await run(t, 'demo/seed.ts', [], { ...env, EDGE_BROKER_PORT: '1' })
    t.equal(seed.status, 1)
    t.match(seed.output, /^seed: no edge takes connections on 127\.0\.0\.1:1 .*npm start in another terminal.*\n$/)
  })

  t.test('a second start on the same data is refused', async (t) => {
    const second = await run(t, 'demo/main.ts', [], env)
    t.equal(second.status, 1)
    t.equal(second.output.trimEnd().split('\n').length, 1)
    t.match(second.output, new RegExp(`runs already in this checkout \\(process ${demo.child.pid}\\)`))
  })

  t.test('the database’s URL is for its owner only', async (t) => {
    t.equal(statSync(join(folder, 'database-url')).mode & 0o777, 0o600)
  })

  let rows = 0
  t.test('SIGINT ends it in order, with the sums', async (t) => {
    const atMs = performance.now()
    demo.child.kill('SIGINT')
    t.same(await demo.ended, { status: 0, signal: null })
    t.ok(performance.now() - atMs < STOP_MS)
    const sums =
      /published ([\d,]+) readings, acknowledged ([\d,]+), left in the edge’s buffer 0, rows in the database ([\d,]+)\./
    const [, published, acknowledged, stored] = sums.exec(demo.output()) ?? []
    t.equal(acknowledged, published, demo.output())
    rows = number(stored)
    t.equal(rows, number(published) + 1 + 1_000)
    t.notOk(existsSync(join(folder, 'database-url')))
    t.notOk(existsSync(join(cluster, 'postmaster.pid')))
  })

  t.test('without a running demo, seed says how to start it', async (t) => {
    const seed = await run(t, 'demo/seed.ts', [], seedEnv)
    t.equal(seed.status, 1)
    t.equal(
      seed.output,
      'seed: the demo does not run here; start it with npm start in another terminal, then try again\n'
    )
  })

  t.test('the next start has the rows of the last one; killed, the one after it has them too', async (t) => {
    const second = start(t, 'demo/main.ts', ['--no-plant'], env)
    await second.sees(new RegExp(`rows ${rows.toLocaleString('en-US')} `))
    second.child.kill('SIGKILL')
    await second.ended
    t.ok(existsSync(join(cluster, 'postmaster.pid')), 'its database server was left behind')
    const third = start(t, 'demo/main.ts', ['--no-plant'], env)
    await third.sees(new RegExp(`rows ${rows.toLocaleString('en-US')} `))
    t.equal((await rowsOf(t, folder, topic)).length, 1)
    third.child.kill('SIGTERM')
    t.same(await third.ended, { status: 0, signal: null })
    t.match(third.output(), `rows in the database ${rows.toLocaleString('en-US')}`)
  })
})

t.test('what can’t be started says why in one line', async (t) => {
  const folder = temporaryFolder(t, 'millrace-demo-')
  const refused = async (args: string[], more: Record<string, string> = {}) => {
    const { status, output } = await run(t, 'demo/main.ts', args, environment(folder, more))
    t.equal(status, 1, output)
    return output
  }

  t.test('an unknown option', async (t) => {
    t.equal(await refused(['--plants']), 'millrace: unknown option --plants; npm start -- --help lists the options\n')
  })

  t.test('a value out of bounds, and all problems at once', async (t) => {
    const said = 'millrace: --rate must be a number from 0.1 to 100, not 1000; "now" is no option;'
    t.match(await refused(['--rate', '1000', 'now']), said)
  })

  t.test('an option that npm kept', async (t) => {
    t.match(
      await refused([], { npm_config_plant: '' }),
      'npm kept --no-plant for itself, write npm start -- --no-plant'
    )
  })

  t.test('ports that are taken, all of them', async (t) => {
    const servers = await Promise.all([listen(t), listen(t)])
    const [first = 0, second = 0] = servers
    const said = await refused([], { EDGE_BROKER_PORT: String(first), BRIDGE_HTTP_PORT: String(second) })
    t.match(said, `port ${first} for the edge’s broker is in use; port ${second} for the bridge’s page is in use`)
    t.match(said, /EDGE_BROKER_PORT=\d+ BRIDGE_HTTP_PORT=\d+ npm start\n$/)
  })

  t.test('a database that isn’t there', async (t) => {
    const said = await refused([], { DATABASE_URL: 'postgresql://someone:secret@127.0.0.1:1/nothing' })
    t.match(said, /no connection to .*127\.0\.0\.1:1/)
    t.notMatch(said, 'secret')
  })

  t.test('a service’s setting', async (t) => {
    t.match(await refused([], { EDGE_COMMIT_WINDOW_MS: 'soon' }), /EDGE_COMMIT_WINDOW_MS: must be a duration/)
  })
})

t.test('--help lists the options', async (t) => {
  const { status, output } = await run(t, 'demo/main.ts', ['--help'], environment('/nonexistent'))
  t.equal(status, 0)
  for (const option of ['--no-plant', '--rate', '--seed', 'EDGE_BROKER_PORT']) t.match(output, option)
})

/** A port that is taken until `t` ends. */
function listen(t: Test): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(address === null || typeof address === 'string' ? 0 : address.port)
    })
    t.teardown(() => server.close())
  })
}
