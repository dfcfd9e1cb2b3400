import { spawn } from 'node:child_process'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import { startPostgres } from '../../demo/postgres.ts'
import type { PostgresServer } from '../../demo/postgres.ts'
import { startTestServer, temporaryFolder, testDatabase } from '../helpers/postgres.ts'
import { waitFor } from '../helpers/wait-for.ts'

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  try {
    const { rows } = await client.query({ text: sql, rowMode: 'array' })
    return rows
  } finally {
    await client.end()
  }
}

/** Starts a server again on the folder of one that was stopped or killed. */
async function startAgain(t: Test, before: PostgresServer, port = 0): Promise<PostgresServer> {
  const server = await startPostgres({ dataDir: before.dataDir, port, settings: { fsync: 'off' } })
  t.teardown(() => server.stop('immediate'))
  return server
}

t.test('a new server', async (t) => {
  const server = await startTestServer(t)

  t.test('is UTF-8 with the C locale and in UTC', async (t) => {
    const sql =
      "SELECT current_setting('server_encoding'), datcollate, current_setting('timezone') FROM pg_database WHERE datname = current_database()"
    t.same(await query(server.url, sql), [['UTF8', 'C', 'UTC']])
  })

  t.test('listens on the loopback interface only and on no socket file', async (t) => {
    const sql =
      "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories'), current_setting('port')::int"
    t.same(await query(server.url, sql), [['127.0.0.1', '', server.port]])
  })

  t.test('refuses a wrong password', async (t) => {
    const url = new URL(server.url)
    url.password = 'wrong'
    await t.rejects(query(url.href, 'SELECT 1'), { code: '28P01' })
  })

  t.test('keeps its password readable by its owner only', async (t) => {
    t.equal(statSync(join(server.dataDir, 'password')).mode & 0o777, 0o600)
  })

  t.test('refuses a second start on its folder while its starter lives', async (t) => {
    await t.rejects(startPostgres({ dataDir: server.dataDir }), {
      code: 'database_unreachable',
      message: /runs already/
    })
    t.same(await query(server.url, 'SELECT 1'), [[1]])
  })

  t.test('says when a wanted port is in use', async (t) => {
    const other = await startTestServer(t)
    await other.stop()
    await t.rejects(startPostgres({ dataDir: other.dataDir, port: server.port }), { code: 'port_in_use' })
  })
})

t.test('the rows of a server that was stopped are there at the next start, under the same password', async (t) => {
  const server = await startTestServer(t)
  await query(server.url, 'CREATE TABLE kept AS SELECT 7 AS n')
  await server.stop()
  await server.stop()
  const again = await startAgain(t, server, server.port)
  t.same(await query(server.url, 'SELECT n FROM kept'), [[7]])
  t.equal(again.url, server.url)
})

t.test('a server killed with SIGKILL starts again with what it had committed', async (t) => {
  const server = await startTestServer(t)
  await query(server.url, 'CREATE TABLE kept AS SELECT 7 AS n')
  process.kill(server.pid, 'SIGKILL')
  const again = await startAgain(t, server)
  t.same(await query(again.url, 'SELECT n FROM kept'), [[7]])
})

t.test('a stop that is a crash loses nothing that was committed', async (t) => {
  const server = await startTestServer(t)
  await query(server.url, 'CREATE TABLE kept AS SELECT 7 AS n')
  await server.stop('immediate')
  const again = await startAgain(t, server)
  t.same(await query(again.url, 'SELECT n FROM kept'), [[7]])
})

t.test('a lock file whose process id is now another program is not in the way', async (t) => {
  const server = await startTestServer(t)
  await server.stop()
  writeFileSync(join(server.dataDir, 'cluster', 'postmaster.pid'), `${process.pid}\n`)
  const again = await startAgain(t, server)
  t.same(await query(again.url, 'SELECT 1'), [[1]])
})

t.test('a server that outlived its killed starter is replaced', async (t) => {
  const before = await startTestServer(t)
  await before.stop()
  const program = `
    import { startPostgres } from ${JSON.stringify(new URL('../../demo/postgres.ts', import.meta.url).href)}
    const server = await startPostgres({ dataDir: process.argv[1], settings: { fsync: 'off' } })
    console.log(server.url + ' ' + server.pid)
    setInterval(() => {}, 1000)`
  const starter = spawn(process.execPath, ['--input-type=module', '-e', program, before.dataDir])
  let said = ''
  starter.stdout.on('data', (chunk) => {
    said += String(chunk)
  })
  const [url, orphanPid] = await waitFor('the starter to start its server', () => /^(\S+) (\d+)\n/.exec(said)?.slice(1))
  starter.kill('SIGKILL')
  await waitFor('the starter to be gone', () => starter.signalCode !== null)
  t.same(await query(String(url), 'SELECT 1'), [[1]], 'the server runs on without its starter')
  const again = await startAgain(t, before)
  t.not(again.pid, Number(orphanPid))
  t.same(await query(again.url, 'SELECT 1'), [[1]])
})

t.test('a process that ends without stopping its server takes it along', async (t) => {
  const before = await startTestServer(t)
  await before.stop()
  const program = `
    import { startPostgres } from ${JSON.stringify(new URL('../../demo/postgres.ts', import.meta.url).href)}
    const server = await startPostgres({ dataDir: process.argv[1], settings: { fsync: 'off' } })
    process.stdout.write(server.url, () => process.exit(3))`
  const starter = spawn(process.execPath, ['--input-type=module', '-e', program, before.dataDir])
  let url = ''
  starter.stdout.on('data', (chunk) => {
    url += String(chunk)
  })
  await waitFor('the starter to end', () => starter.exitCode !== null)
  t.equal(starter.exitCode, 3)
  t.match(url, /^postgresql:/)
  await waitFor('the server to end', () =>
    query(url, 'SELECT 1').then(
      () => false,
      () => true
    )
  )
  const again = await startAgain(t, before)
  t.same(await query(again.url, 'SELECT 1'), [[1]])
})

t.test('a folder that is a file is refused with its name', async (t) => {
  const folder = temporaryFolder(t, 'millrace-postgres-')
  writeFileSync(join(folder, 'file'), '')
  await t.rejects(startPostgres({ dataDir: join(folder, 'file') }), {
    code: 'folder_unwritable',
    message: join(folder, 'file')
  })
})

t.test('two databases of one test are two', async (t) => {
  const [one, other] = [await testDatabase(t), await testDatabase(t)]
  await query(one.url, 'CREATE TABLE only_in_one (n int)')
  t.not(one.name, other.name)
  await t.rejects(query(other.url, 'SELECT * FROM only_in_one'), { code: '42P01' })
})
