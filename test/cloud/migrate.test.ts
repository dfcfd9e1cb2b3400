import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import { openDatabase } from '../../cloud/database.ts'
import { detectEngine, judgeEngine, prepareEngine } from '../../cloud/engine.ts'
import type { EngineChoice, ServerFacts } from '../../cloud/engine.ts'
import { migrate, schemaState } from '../../cloud/migrate.ts'
import { migrationsFolder } from '../../cloud/migrations.ts'
import { silentLog } from '../../shared/log.ts'
import { freePort } from '../helpers/free-port.ts'
import { testDatabase } from '../helpers/postgres.ts'
import { waitFor } from '../helpers/wait-for.ts'

const log = silentLog()
const policies = { retentionDays: 180, compressAfterDays: 7 }
const ROOT = join(import.meta.dirname, '..', '..')

/** An empty database, and how to migrate it. */
async function open(t: Test) {
  const { url } = await testDatabase(t)
  const database = openDatabase({ url, max: 10, log, applicationName: 'migrate-test' })
  t.teardown(() => database.close())
  return {
    url,
    database,
    run(folder?: string, engine: EngineChoice = 'plain') {
      return database.withClient((client) =>
        migrate({ client, log, policies, engine, ...(folder === undefined ? {} : { folder }) })
      )
    },
    query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []) {
      return database.withClient(async (client) => (await client.query<Row>(text, values)).rows)
    }
  }
}

/** A folder of migrations: the files given, or a copy of the real ones. */
function folderOf(t: Test, files?: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-migrations-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  if (files === undefined) cpSync(migrationsFolder(), folder, { recursive: true })
  for (const [file, sql] of Object.entries(files ?? {})) writeFileSync(join(folder, file), sql)
  return folder
}

/** `npm run migrate` as a process, ended with `t`; `said` grows while it runs. */
function runMain(t: Test, env: Record<string, string>) {
  const child = spawn(process.execPath, [join(ROOT, 'cloud', 'migrate-main.ts')], {
    env: { PATH: process.env.PATH ?? '', ...env }
  })
  t.teardown(() => child.kill())
  const said = { out: '', err: '' }
  child.stdout.on('data', (chunk: Buffer) => {
    said.out += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    said.err += chunk.toString()
  })
  const ended = new Promise<{ status: number | null; out: string; err: string }>((resolve) => {
    child.on('close', (status) => resolve({ status, ...said }))
  })
  return { said, ended }
}

t.test('an empty database gets every table, and a second run changes nothing', async (t) => {
  const { database, run, query } = await open(t)
  t.match(await database.withClient((client) => schemaState(client)), { state: 'missing', version: null, engine: null })
  const first = await run()
  t.equal(first.engine.kind, 'plain')
  t.ok(first.applied.includes('0001_registry.sql'))
  t.same(first.skipped, ['0002_sensor_readings_hypertable.sql'])
  const tables = await query<{ table_name: string }>(`
    SELECT table_name
    FROM information_schema.tables
    WHERE table_schema = 'public'
    ORDER BY table_name
  `)
  t.same(
    tables.map((row) => row.table_name),
    [
      'app_schema_migrations',
      'data_gaps',
      'dead_letters',
      'gateways',
      'ingest_batches',
      'ingest_lanes',
      'maintenance_inbox',
      'maintenance_logs',
      'maintenance_tasks',
      'sensor_readings',
      'sensors'
    ]
  )
  const second = await run()
  t.same([second.applied, second.skipped, second.version], [[], [], first.version])
  const state = await database.withClient((client) => schemaState(client))
  t.same(state, { state: 'current', version: first.version, expected: first.version, engine: 'plain' })
})

t.test('a migrator leaves its connection as it was', async (t) => {
  const { database } = await open(t)
  await database.withClient(async (client) => {
    await migrate({ client, log, policies, engine: 'plain' })
    t.equal(client.getTransactionStatus(), 'I')
    const { rows } = await client.query(`
      SELECT
        current_setting('statement_timeout') AS statement_timeout,
        current_setting('lock_timeout') AS lock_timeout,
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks
    `)
    t.same(rows, [{ statement_timeout: '1min', lock_timeout: '10s', locks: 0 }])
  })
})

t.test('each table, and each file of the history, says what it is', async (t) => {
  const { run, query } = await open(t)
  const { applied, skipped } = await run()
  const silent = await query(`
    SELECT relname
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
      AND relkind IN ('r', 'p')
      AND NOT relispartition
      AND obj_description(oid, 'pg_class') IS NULL
  `)
  t.same(silent, [], 'no table is without a comment')
  const history = await query<{ name: string; skipped: boolean }>(
    'SELECT name, skipped FROM app_schema_migrations ORDER BY version'
  )
  t.same(
    history.filter((row) => !row.skipped).map((row) => row.name),
    applied
  )
  t.same(
    history.filter((row) => row.skipped).map((row) => row.name),
    skipped
  )
})

t.test('the readings have one index, and no foreign key', async (t) => {
  const { run, query } = await open(t)
  await run()
  t.same(await query(`SELECT indexname FROM pg_indexes WHERE tablename = 'sensor_readings'`), [
    { indexname: 'sensor_readings_pkey' }
  ])
  t.same(
    await query(`SELECT conname FROM pg_constraint WHERE conrelid = 'sensor_readings'::regclass AND contype = 'f'`),
    []
  )
  t.same(await query(`SELECT cache_size FROM pg_sequences WHERE sequencename = 'sensor_readings_id_seq'`), [
    { cache_size: 1000 }
  ])
})

t.test('a ledger row whose sum is wrong is refused', async (t) => {
  const { run, query } = await open(t)
  await run()
  const insert = (stored: number) =>
    query(
      `
        INSERT INTO ingest_batches (
          gateway_id, epoch, lane, batch, kind, first_seq, last_seq, digest,
          records, stored, duplicates, dead_lettered, evicted
        )
        VALUES ('g', 'e', 'readings', 1, 'data', 1, 10, $1, 10, $2, 2, 1, 0)
      `,
      [Buffer.alloc(32), stored]
    )
  await t.rejects(insert(8), { code: '23514', constraint: 'ingest_batches_sum_check' })
  await t.resolves(insert(7))
})

t.test('ten migrators at once apply each file once', async (t) => {
  const { run, query } = await open(t)
  const reports = await Promise.all(Array.from({ length: 10 }, () => run()))
  t.equal(reports.filter((report) => report.applied.length > 0).length, 1, 'one of them did the work')
  t.equal(new Set(reports.map((report) => report.version)).size, 1, 'all end at the same version')
  const [row] = await query<{ n: number }>('SELECT count(*) AS n FROM app_schema_migrations')
  t.equal(row?.n, (reports.find((report) => report.applied.length > 0)?.applied.length ?? 0) + 1)
})

t.test('a file that was changed after it was applied stops everything, and is named', async (t) => {
  const { database, run } = await open(t)
  const folder = folderOf(t)
  await run(folder)
  const file = join(folder, '0005_ledger.sql')
  writeFileSync(file, `${readFileSync(file, 'utf8')}\n-- one more thought\n`)
  writeFileSync(join(folder, '0099_next.sql'), 'CREATE TABLE next (id integer);')
  await t.rejects(run(folder), { code: 'schema_changed', message: /0005_ledger\.sql was changed/ })
  t.match(await database.withClient((client) => schemaState(client, folder)), { state: 'changed' })
})

t.test('a skipped file that was changed is noticed like an applied one', async (t) => {
  const { run } = await open(t)
  const folder = folderOf(t)
  await run(folder)
  writeFileSync(join(folder, '0002_sensor_readings_hypertable.sql'), '-- only: timescale\nSELECT 1;')
  await t.rejects(run(folder), { code: 'schema_changed', message: /0002_sensor_readings_hypertable\.sql/ })
})

t.test('other line ends are no change', async (t) => {
  const { run } = await open(t)
  await run()
  const folder = folderOf(t)
  const file = join(folder, '0001_registry.sql')
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll('\n', '\r\n'))
  t.same((await run(folder)).applied, [])
})

t.test('an applied file that is gone, and one put in below an applied one, are refused', async (t) => {
  const { run } = await open(t)
  const whole = { '0001_a.sql': 'CREATE TABLE a (id integer);', '0003_c.sql': 'CREATE TABLE c (id integer);' }
  await run(folderOf(t, whole))
  await t.rejects(run(folderOf(t, { '0003_c.sql': whole['0003_c.sql'] })), {
    code: 'schema_changed',
    message: /0001_a\.sql was applied .* gone/
  })
  await t.rejects(run(folderOf(t, { ...whole, '0002_b.sql': 'CREATE TABLE b (id integer);' })), {
    code: 'schema_changed',
    message: /0002_b\.sql was put in after 0003_c\.sql/
  })
})

t.test('a schema newer than the program is left alone', async (t) => {
  const { database, run } = await open(t)
  const folder = folderOf(t)
  writeFileSync(join(folder, '0099_next.sql'), 'CREATE TABLE next (id integer);')
  await run(folder)
  await t.rejects(run(), { code: 'schema_newer', message: /at 0099/ })
  t.match(await database.withClient((client) => schemaState(client)), { state: 'newer', version: '0099' })
})

t.test('a program newer than the schema finds it behind', async (t) => {
  const { database, run } = await open(t)
  await run()
  const folder = folderOf(t)
  writeFileSync(join(folder, '0099_next.sql'), 'CREATE TABLE next (id integer);')
  t.match(await database.withClient((client) => schemaState(client, folder)), { state: 'behind', expected: '0099' })
  t.same((await run(folder)).applied, ['0099_next.sql'])
})

t.test('a file that fails is rolled back whole, the ones before it stay, and the next run goes on there', async (t) => {
  const { run, query } = await open(t)
  const good = { '0001_a.sql': 'CREATE TABLE a (id integer);' }
  await t.rejects(run(folderOf(t, { ...good, '0002_b.sql': 'CREATE TABLE b (id integer); SELECT 1 / 0;' })), {
    message: '0002_b.sql failed: division by zero'
  })
  t.same(await query(`SELECT to_regclass('a')::text AS a, to_regclass('b')::text AS b`), [{ a: 'a', b: null }])
  const report = await run(folderOf(t, { ...good, '0002_b.sql': 'CREATE TABLE b (id integer);' }))
  t.same(report.applied, ['0002_b.sql'])
})

t.test(
  'a file marked no-transaction runs outside one, also when the process ended before it was recorded',
  async (t) => {
    const { run, query } = await open(t)
    const folder = folderOf(t, {
      '0001_a.sql': 'CREATE TABLE a (id integer);',
      '0002_index.sql': '-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a_id_idx ON a (id);'
    })
    t.same((await run(folder)).applied, ['0001_a.sql', '0002_index.sql'])
    await query(`DELETE FROM app_schema_migrations WHERE version = '0002'`)
    t.same((await run(folder)).applied, ['0002_index.sql'])
  }
)

t.test('ten migrators at once build an index concurrently without waiting for each other', async (t) => {
  const { run } = await open(t)
  const folder = folderOf(t, {
    '0001_a.sql': 'CREATE TABLE a (id integer);',
    '0002_index.sql': '-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a_id_idx ON a (id);'
  })
  const reports = await Promise.all(Array.from({ length: 10 }, () => run(folder)))
  t.same(
    reports.flatMap((report) => report.applied),
    ['0001_a.sql', '0002_index.sql']
  )
})

t.test('a name, a number twice and a marker that make no sense are refused by name', async (t) => {
  const { run } = await open(t)
  await t.rejects(run(folderOf(t, { '1_a.sql': '' })), { message: /1_a\.sql/ })
  await t.rejects(run(folderOf(t, { '0001_a.sql': '', '0001_b.sql': '' })), { message: /0001_a\.sql, 0001_b\.sql/ })
  await t.rejects(run(folderOf(t, { '0001_a.sql': '-- only: oracle\nSELECT 1;' })), { message: /0001_a\.sql.*oracle/ })
})

t.test('the tables of one engine are not used with another', async (t) => {
  const { run, query } = await open(t)
  await run()
  await query(`UPDATE app_schema_migrations SET engine = 'timescale'`)
  await t.rejects(run(), { code: 'database_unsupported', message: /made for the engine timescale/ })
  await query(`UPDATE app_schema_migrations SET engine = 'apache'`)
  t.equal((await run(undefined, 'auto')).engine.kind, 'plain', 'apache and plain have the same tables')
})

const facts: ServerFacts = {
  serverVersion: '17.2',
  serverVersionNumber: 170_002,
  installed: '2.28.3',
  available: '2.28.3',
  license: 'timescale'
}

t.test('the engine is what the server says', async (t) => {
  t.same(judgeEngine(facts), { kind: 'timescale', serverVersion: '17.2', timescaleVersion: '2.28.3' })
  t.equal(judgeEngine({ ...facts, license: 'apache' }).kind, 'apache')
  t.same(judgeEngine({ ...facts, installed: null, license: null }), {
    kind: 'plain',
    serverVersion: '17.2',
    timescaleVersion: null
  })
  const { database } = await open(t)
  const engine = await database.withClient((client) => detectEngine(client))
  t.match(engine.serverVersion, /^\d+\.\d+$/)
})

t.test('TimescaleDB below 2.18.1 and PostgreSQL below 15 are refused', async (t) => {
  for (const installed of ['2.18.0', '2.17.2', '2.9.3', '1.7.5', 'unheard-of']) {
    t.throws(
      () => judgeEngine({ ...facts, installed }),
      { code: 'database_unsupported', hint: /ALTER EXTENSION/ },
      installed
    )
  }
  for (const installed of ['2.18.1', '2.19.0', '2.23.0-dev', '3.0.0']) {
    t.equal(judgeEngine({ ...facts, installed }).timescaleVersion, installed)
  }
  t.throws(() => judgeEngine({ ...facts, serverVersion: '14.9', serverVersionNumber: 140_009 }), {
    code: 'database_unsupported',
    message: /PostgreSQL 14\.9/
  })
  t.equal(judgeEngine({ ...facts, serverVersion: '15.0', serverVersionNumber: 150_000 }).kind, 'timescale')
})

t.test('TimescaleDB that is there and may not be created is refused with what to run', async (t) => {
  const asked: string[] = []
  /** A server that offers the extension to administrators only. */
  const client = {
    async query<Row extends pg.QueryResultRow>(text: string): Promise<{ rows: Row[] }> {
      asked.push(text)
      if (text.startsWith('CREATE EXTENSION')) throw Object.assign(new Error('permission denied'), { code: '42501' })
      const row = { server_version: '17.2', server_version_number: '170002', installed: null, available: '2.28.3' }
      const rows: Row[] = JSON.parse(JSON.stringify([row]))
      return { rows }
    }
  }
  await t.rejects(prepareEngine(client, 'auto'), {
    code: 'database_unsupported',
    message: /TimescaleDB 2\.28\.3.*permission denied/,
    hint: /CREATE EXTENSION timescaledb.*DATABASE_ENGINE=plain/
  })
  asked.length = 0
  t.equal((await prepareEngine(client, 'plain')).kind, 'plain')
  t.notOk(
    asked.some((text) => text.includes('CREATE EXTENSION')),
    'with plain nothing is created'
  )
})

t.test('partitions are made for the instants of a range, both ends included, in weeks of the Unix epoch', async (t) => {
  const { run, query } = await open(t)
  await run()
  const ensure = async (from: string, to: string) =>
    (await query<{ made: number }>('SELECT millrace_ensure_partitions($1, $2) AS made', [from, to]))[0]?.made
  const partitions = async () =>
    (
      await query<{ name: string }>(`
        SELECT inhrelid::regclass::text AS name
        FROM pg_inherits
        WHERE inhparent = 'sensor_readings'::regclass
        ORDER BY name
      `)
    ).map((row) => row.name)

  t.equal(await ensure('2024-01-04T00:00:00Z', '2024-01-10T23:59:59.999999Z'), 1)
  t.same(await partitions(), ['sensor_readings_p20240104'])
  t.equal(await ensure('2024-01-04T00:00:00Z', '2024-01-11T00:00:00Z'), 1, 'the end itself is included')
  t.equal(await ensure('2024-01-03T23:59:59.999999Z', '2024-01-10T00:00:00Z'), 1, 'the microsecond before the week')
  t.same(await partitions(), ['sensor_readings_p20231228', 'sensor_readings_p20240104', 'sensor_readings_p20240111'])
  t.equal(await ensure('2023-12-28T00:00:00Z', '2024-01-17T00:00:00Z'), 0, 'what exists is not made again')
  t.equal(await ensure('1969-12-31T23:59:59Z', '1970-01-01T00:00:00Z'), 2, 'before 1970 as well')
  const insert = (timestamp: string) =>
    query(
      `
        INSERT INTO sensor_readings (timestamp, sensor_id, value, quality, received_at)
        VALUES ($1, 'press-07', 1, 192, now())
      `,
      [timestamp]
    )
  for (const timestamp of ['2023-12-28T00:00:00Z', '2024-01-17T23:59:59.999999Z', '1969-12-25T00:00:00Z']) {
    await t.resolves(insert(timestamp), timestamp)
  }
  await t.rejects(insert('2024-01-18T00:00:00Z'), { code: '23514' })
  await t.rejects(insert('2024-01-17T23:59:59.999999Z'), { code: '23505' })
})

t.test('two sessions that make the same partition at once make it once, and inserts go on meanwhile', async (t) => {
  const { database, run, query } = await open(t)
  await run()
  await query(`SELECT millrace_ensure_partitions('2024-01-04Z', '2024-01-04Z')`)
  const sql = `SELECT millrace_ensure_partitions('2024-01-11Z', '2024-01-18Z') AS made`
  await database.withClient(async (first) => {
    await first.query('BEGIN')
    t.equal((await first.query(sql)).rows[0]?.made, 2)
    const second = query<{ made: number }>(sql)
    await waitFor('the second session to wait for the first', async () => {
      const [row] = await query<{ n: number }>(
        `SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`
      )
      return row?.n === 1
    })
    await t.resolves(
      query(
        `INSERT INTO sensor_readings (timestamp, sensor_id, quality, received_at) VALUES ('2024-01-05Z', 's', 0, now())`
      )
    )
    await first.query('COMMIT')
    t.same(await second, [{ made: 0 }])
  })
})

t.test('partitions in plenty, backwards, without an end or out of the calendar are refused', async (t) => {
  const { run, query } = await open(t)
  await run()
  const ensure = (from: string | null, to: string | null) =>
    query('SELECT millrace_ensure_partitions($1, $2)', [from, to])
  await t.rejects(ensure('2023-01-01Z', '2024-02-06Z'), { code: '22023', message: /span more than 400 days/ })
  await t.resolves(ensure('2023-01-01Z', '2024-02-05Z'), '400 days to the day')
  await t.rejects(ensure('2024-01-02Z', '2024-01-01Z'), { code: '22023' })
  await t.rejects(ensure(null, '2024-01-01Z'), { code: '22004' })
  for (const far of ['-infinity', 'infinity', '0044-03-15 BC', '10000-01-01Z'])
    await t.rejects(ensure(far, far), { code: '22008' }, far)
})

t.test(
  'a login that owns nothing makes partitions by the function alone, and puts no name of its own in front',
  async (t) => {
    const { url, database, run, query } = await open(t)
    await run()
    const role = `bridge_${new URL(url).pathname.slice(-8)}`
    await query(`CREATE ROLE ${role} LOGIN PASSWORD 'only-for-tests'`)
    t.teardown(async () => {
      await query(`DROP OWNED BY ${role}`)
      await query(`DROP ROLE ${role}`)
    })
    const login = new URL(url)
    login.username = role
    login.password = 'only-for-tests'
    const client = new pg.Client({ connectionString: login.href })
    await client.connect()
    t.teardown(() => client.end())
    const ensure = () => client.query(`SELECT millrace_ensure_partitions('2024-01-04Z', '2024-01-04Z') AS made`)
    await t.rejects(ensure(), { code: '42501' })
    await database.withClient((owner) =>
      owner.query(`GRANT EXECUTE ON FUNCTION millrace_ensure_partitions(timestamptz, timestamptz) TO ${role}`)
    )
    await t.rejects(client.query(`CREATE TABLE public.mine PARTITION OF sensor_readings DEFAULT`), { code: '42501' })
    await client.query(`CREATE TEMPORARY TABLE sensor_readings (id integer)`)
    t.equal((await ensure()).rows[0]?.made, 1)
    t.same(
      await query(
        `SELECT inhparent::regclass::text AS parent FROM pg_inherits WHERE inhrelid = 'sensor_readings_p20240104'::regclass`
      ),
      [{ parent: 'sensor_readings' }]
    )
  }
)

t.test('a login that may make no tables is told so', async (t) => {
  const { url, query } = await open(t)
  const role = `guest_${new URL(url).pathname.slice(-8)}`
  await query(`CREATE ROLE ${role} LOGIN PASSWORD 'only-for-tests'`)
  t.teardown(() => query(`DROP ROLE ${role}`))
  const login = new URL(url)
  login.username = role
  login.password = 'only-for-tests'
  const { status, err } = await runMain(t, { DATABASE_URL: login.href, DATABASE_ENGINE: 'plain' }).ended
  t.equal(status, 1)
  t.match(err, /^migrate failed: the login may not make tables here.*grant it CREATE on the schema\n$/)
})

t.test('npm run migrate says what it did, and does nothing twice', async (t) => {
  const { url } = await testDatabase(t)
  const env = { DATABASE_URL: url.replace('postgresql:', 'postgresql+asyncpg:'), DATABASE_ENGINE: 'plain' }
  const first = await runMain(t, env).ended
  t.equal(first.status, 0, first.err)
  t.match(first.out, /migration applied: 0001_registry\.sql\n/)
  t.match(first.out, /the schema is now at \d{4}\n$/)
  t.notMatch(first.out, new URL(url).password || 'no password', 'the password is not shown')
  const second = await runMain(t, env).ended
  t.equal(second.status, 0)
  t.match(second.out, /the schema is current, at \d{4}\n$/)
})

t.test('npm run migrate waits for a server that is not there yet, and says so', async (t) => {
  const port = await freePort()
  const { said } = runMain(t, { DATABASE_URL: `postgresql://nobody:hush@127.0.0.1:${port}/none` })
  const line = await waitFor('a second try', () => /^no connection.*trying.*\n(no connection.*)\n/m.exec(said.out)?.[1])
  t.match(
    line,
    /^no connection to postgresql:\/\/nobody:\*\*\*@127\.0\.0\.1:\d+\/none: .*ECONNREFUSED.*; trying for another \d+ s$/
  )
  t.notMatch(said.out, 'hush')
})

t.test('npm run migrate fails in one clear line', async (t) => {
  const { url } = await testDatabase(t)
  const elsewhere = new URL(url)
  elsewhere.pathname = '/no_such_database'
  const missing = await runMain(t, { DATABASE_URL: elsewhere.href }).ended
  t.equal(missing.status, 1)
  t.match(missing.err, /^migrate failed: .*"no_such_database" does not exist.*\n$/)
  const unset = await runMain(t, { RETENTION_DAYS: 'soon' }).ended
  t.equal(unset.status, 1)
  t.match(unset.err, /DATABASE_URL: is required/)
  t.match(unset.err, /RETENTION_DAYS: must be a whole number/)
})
