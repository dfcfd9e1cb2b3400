// PostgreSQL for tests: a database per test on one server per test process, or a server of the test's own to stop and kill.
//
// TEST_DATABASE_URL names a server on which databases may be created (a TimescaleDB, say); without it an embedded one is
// started in a temporary folder, with fsync off: it survives the kills of tests, not a power cut.
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import tap from 'tap'
import { startPostgres } from '../../demo/postgres.ts'
import type { PostgresServer } from '../../demo/postgres.ts'

/** The part of a test that helpers use. */
type Test = { teardown(done: () => Promise<void> | void): void }

const FAST_SETTINGS = { fsync: 'off', synchronous_commit: 'on', full_page_writes: 'off' }

let sharedServer: Promise<PostgresServer> | null = null

/** An empty database, dropped when `t` ends. Its server is shared by the file: tests that stop one use `startTestServer`. */
export async function testDatabase(t: Test): Promise<{ url: string; name: string }> {
  const serverUrl = await sharedServerUrl()
  const name = `test_${randomBytes(8).toString('hex')}`
  await execute(serverUrl, `CREATE DATABASE ${name}`)
  t.teardown(() => execute(serverUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return { url: url.href, name }
}

/**
 * An embedded server for this test alone, stopped and deleted when `t` ends. To start it again after a kill, call
 * `startPostgres({ dataDir: server.dataDir, port: server.port })`, and stop that one too.
 */
export async function startTestServer(
  t: Test,
  options: { port?: number; settings?: Record<string, string> } = {}
): Promise<PostgresServer> {
  const folder = temporaryFolder(t, 'millrace-postgres-')
  const server = await startPostgres({
    dataDir: folder,
    port: options.port ?? 0,
    settings: { ...FAST_SETTINGS, ...options.settings }
  })
  t.teardown(async () => {
    await server.stop('immediate')
    rmSync(server.dataDir, { recursive: true, force: true })
  })
  return server
}

/** A new folder, deleted when `t` ends, that the server's account can pass through when the tests run as root. */
export function temporaryFolder(t: Test, prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix))
  chmodSync(folder, 0o711)
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function sharedServerUrl(): Promise<string> {
  const given = process.env['TEST_DATABASE_URL']
  if (given !== undefined && given !== '') return given
  sharedServer ??= startTestServer(tap)
  return (await sharedServer).url
}

async function execute(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
