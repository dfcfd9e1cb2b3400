// No container engine is needed here: the files that make the containers are read, every path, target and variable they name must
// exist, and what the images would start is built and started the same way.
import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { z } from 'zod'
import { bridgeConfig, migrateConfig } from '../../cloud/config.ts'
import { edgeConfig } from '../../edge/config.ts'
import { freePort } from '../helpers/free-port.ts'
import { waitFor } from '../helpers/wait-for.ts'

const CHECKOUT = join(import.meta.dirname, '..', '..')

const service = z.looseObject({
  image: z.string().optional(),
  build: z.object({ context: z.string(), dockerfile: z.string(), target: z.string() }).optional(),
  entrypoint: z.array(z.string()).optional(),
  environment: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
  restart: z.string().optional(),
  read_only: z.boolean().optional(),
  logging: z.object({ driver: z.string(), options: z.record(z.string(), z.string()) })
})
const compose = z
  .looseObject({
    services: z.record(z.string(), service),
    volumes: z.record(z.string(), z.unknown()),
    configs: z.record(z.string(), z.object({ content: z.string() }))
  })
  .parse(parse(readFileSync(join(CHECKOUT, 'docker-compose.yml'), 'utf8'), { merge: true }))
const dockerfile = readFileSync(join(CHECKOUT, 'Dockerfile.edge'), 'utf8')

/** The JSON array of an instruction, such as the last ENTRYPOINT of a stage. */
function instructionOf(stage: string, name: string): string[] {
  const text = dockerfile.split(/^FROM /m).find((part) => part.split('\n')[0]?.endsWith(`AS ${stage}`)) ?? ''
  const match = new RegExp(`^${name}[^[]*(\\[.*\\])$`, 'm').exec(text.replaceAll('\\\n', ''))
  return z.array(z.string()).parse(JSON.parse(match?.[1] ?? '[]'))
}

/** What a stage copies from the checkout. */
function sourcesOf(stage: string): string[] {
  const text = dockerfile.split(/^FROM /m).find((part) => part.split('\n')[0]?.endsWith(`AS ${stage}`)) ?? ''
  return [...text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) => (sources ?? '').split(' '))
}

const schemas: Record<string, z.ZodObject> = { edge: edgeConfig, bridge: bridgeConfig, migrate: migrateConfig }

t.test('every service that is built names a file and a target that exist', async (t) => {
  const built = Object.values(compose.services).flatMap(({ build }) => (build === undefined ? [] : [build]))
  t.equal(built.length, 3)
  for (const build of built) {
    t.ok(existsSync(join(CHECKOUT, build.context, build.dockerfile)))
    t.match(dockerfile, new RegExp(`^FROM \\S+ AS ${build.target}$`, 'm'))
  }
})

t.test('every path that the image copies exists, and is not ignored', async (t) => {
  const ignored = readFileSync(join(CHECKOUT, '.dockerignore'), 'utf8').split('\n')
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) =>
    (sources ?? '').split(' ')
  )
  t.ok(copied.length >= 6)
  for (const source of copied) {
    t.ok(existsSync(join(CHECKOUT, source)), source)
    t.notOk(ignored.includes(source) || ignored.includes(`${source}/`), `${source} is not ignored`)
  }
})

t.test('every variable that a service sets is one that its program reads', async (t) => {
  for (const [name, schema] of Object.entries(schemas)) {
    const set = Object.keys(compose.services[name]?.environment ?? {})
    t.ok(set.length > 0, name)
    for (const variable of set) t.ok(variable in schema.shape, `${name}: ${variable}`)
  }
  for (const [, stage, variables] of dockerfile.matchAll(
    /^FROM runtime AS (\w+)\n(?:(?!FROM)[\s\S]*?\n)?ENV (.+)$/gm
  )) {
    for (const pair of (variables ?? '').split(' '))
      t.ok((pair.split('=')[0] ?? '') in (schemas[stage ?? '']?.shape ?? {}), pair)
  }
})

t.test('ports are published on loopback only, and logs rotate', async (t) => {
  for (const [name, { ports, logging }] of Object.entries(compose.services)) {
    for (const port of ports) t.match(port, /^127\.0\.0\.1:\d+:\d+$/, name)
    t.match(logging, { driver: 'json-file', options: { 'max-size': /\d+m/, 'max-file': /\d+/ } }, name)
  }
})

t.test('services wait for what they need, restart, and write only to volumes', async (t) => {
  for (const [name, { depends_on: needs, restart, read_only: readOnly, volumes }] of Object.entries(compose.services)) {
    for (const needed of Object.keys(needs)) t.ok(needed in compose.services, `${name} needs ${needed}`)
    if (name !== 'migrate') t.equal(restart, 'unless-stopped', name)
    if (name !== 'database') t.equal(readOnly, true, name)
    for (const volume of volumes) t.ok((volume.split(':')[0] ?? '') in compose.volumes, volume)
  }
  t.match(compose.services['bridge']?.depends_on, { migrate: { condition: 'service_completed_successfully' } })
  t.match(compose.services['database']?.image, /^timescale\/timescaledb:\d+\.\d+\.\d+-pg\d+$/, 'pinned')
  t.match(dockerfile, /^USER node$/m)
})

t.test('what the images start is built and starts the same way', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-image-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const build = join(folder, 'build')
  const app = join(folder, 'app')
  for (const source of sourcesOf('build')) cpSync(join(CHECKOUT, source), join(build, source), { recursive: true })
  symlinkSync(join(CHECKOUT, 'node_modules'), join(build, 'node_modules'))
  const [, compile] = /^RUN node (.+tsc.+)$/m.exec(dockerfile) ?? []
  // The test runner puts its loader into the environment of what is spawned, and the compiler doesn't bear it.
  const unset = ['-u', 'NODE_OPTIONS', process.execPath]
  execFileSync('env', [...unset, ...z.string().parse(compile).split(' ')], { cwd: build, stdio: 'ignore' })
  cpSync(join(build, 'dist'), join(app, 'dist'), { recursive: true })
  for (const source of [...sourcesOf('runtime'), ...sourcesOf('bridge')]) {
    cpSync(join(CHECKOUT, source), join(app, source), { recursive: true })
  }
  symlinkSync(join(CHECKOUT, 'node_modules'), join(app, 'node_modules'))

  async function starts(stage: string, port: string, env: Record<string, string>): Promise<string> {
    const httpPort = String(await freePort())
    const [command, ...args] = instructionOf(stage, 'ENTRYPOINT')
    t.equal(command, 'node')
    const set = Object.fromEntries(
      Object.entries(env).map(([name, value]) => [name, value.replace('{http}', httpPort)])
    )
    const child = spawn(process.execPath, args, { cwd: app, env: set, stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', (code) => resolve(code)))
    t.teardown(() => child.kill('SIGKILL'))
    const health = instructionOf(stage, 'HEALTHCHECK').map((part) => part.replace(port, httpPort))
    await waitFor(`the health check of ${stage}`, () => {
      try {
        execFileSync(process.execPath, health.slice(1), { env: {}, stdio: 'ignore' })
        return true
      } catch {
        return false
      }
    })
    const page = await (await fetch(`http://127.0.0.1:${httpPort}/`)).text()
    child.kill('SIGTERM')
    t.equal(await ended, 0, `${stage} ends in order`)
    return page
  }

  const edgePage = await starts('edge', '8081', {
    EDGE_DATA_DIR: join(folder, 'data'),
    EDGE_BROKER_PORT: '0',
    EDGE_HTTP_PORT: '{http}',
    EDGE_UPLINK_URL: 'mqtt://127.0.0.1:1'
  })
  t.match(edgePage, /<title>Millrace edge<\/title>/)
  const bridgePage = await starts('bridge', '8080', {
    DATABASE_URL: 'postgresql://nobody@127.0.0.1:1/none',
    BRIDGE_BROKER_PORT: '0',
    BRIDGE_HTTP_PORT: '{http}'
  })
  t.match(bridgePage, /<title>Millrace bridge<\/title>/)

  const migrate = (compose.services['migrate']?.entrypoint ?? []).slice(1)
  const started = spawn(process.execPath, migrate, { cwd: app, env: {}, stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  started.stderr.on('data', (chunk) => (said += String(chunk)))
  t.equal(await new Promise((resolve) => started.once('exit', (code) => resolve(code))), 1)
  t.match(said, /DATABASE_URL: is required and not set/)
})
