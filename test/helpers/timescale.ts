// A full TimescaleDB server for tests: the one of TEST_DATABASE_URL, or the official image where Docker answers.
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import tap from 'tap'
import { GenericContainer, Wait, getContainerRuntimeClient } from 'testcontainers'
import type { StartedTestContainer } from 'testcontainers'

/** The part of a test that helpers use. */
type Test = { teardown(done: () => Promise<void> | void): void }

export const TIMESCALE_IMAGE = 'timescale/timescaledb:2.28.3-pg17'

const PASSWORD = 'only-for-tests'
const STARTUP_TIMEOUT_MS = 120_000

let server: Promise<{ url: string } | { reason: string }> | null = null

/** The URL of an empty database, dropped when `t` ends, on a server shared by the file; or null and why there is none. */
export async function timescaleUrl(t: Test): Promise<{ url: string; reason: null } | { url: null; reason: string }> {
  server ??= findServer()
  const found = await server
  if ('reason' in found) return { url: null, reason: found.reason }
  const name = `test_${randomBytes(8).toString('hex')}`
  await query(found.url, `CREATE DATABASE ${name}`)
  t.teardown(async () => {
    await query(found.url, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  })
  const url = new URL(found.url)
  url.pathname = `/${name}`
  return { url: url.href, reason: null }
}

async function findServer(): Promise<{ url: string } | { reason: string }> {
  const given = process.env.TEST_DATABASE_URL
  if (given !== undefined && given !== '') {
    const rows = await query(
      given,
      `
        SELECT FROM pg_available_extensions
        WHERE name = 'timescaledb'
          AND coalesce(current_setting('timescaledb.license', true), 'timescale') = 'timescale'
      `
    )
    if (rows.length > 0) return { url: given }
  }
  try {
    await getContainerRuntimeClient()
  } catch {
    const what =
      given === undefined || given === '' ? 'TEST_DATABASE_URL is not set' : 'TEST_DATABASE_URL has no full TimescaleDB'
    return { reason: `${what}, and no Docker engine answers` }
  }
  return { url: await startContainer() }
}

async function startContainer(): Promise<string> {
  const container: StartedTestContainer = await new GenericContainer(TIMESCALE_IMAGE)
    .withEnvironment({ POSTGRES_PASSWORD: PASSWORD, TIMESCALEDB_TELEMETRY: 'off' })
    .withCommand(['postgres', '-c', 'shared_preload_libraries=timescaledb', '-c', 'fsync=off'])
    .withExposedPorts(5432)
    // Once by the server that runs the image's init scripts, once by the real one.
    .withWaitStrategy(Wait.forLogMessage(/ready to accept connections/, 2))
    .withStartupTimeout(STARTUP_TIMEOUT_MS)
    .start()
  tap.teardown(() => container.stop())
  return `postgresql://postgres:${PASSWORD}@${container.getHost()}:${container.getMappedPort(5432)}/postgres`
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}
