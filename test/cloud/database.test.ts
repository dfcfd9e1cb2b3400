import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import t from 'tap'
import type { Test } from 'tap'
import { normalizeDatabaseUrl, openDatabase, redactUrl } from '../../cloud/database.ts'
import { parseDatabaseUrl } from '../../cloud/database-url.ts'
import { classify, sqlstateOf, transient } from '../../cloud/sqlstate.ts'
import { AppError } from '../../shared/errors.ts'
import { silentLog } from '../../shared/log.ts'
import { freePort } from '../helpers/free-port.ts'
import { testDatabase } from '../helpers/postgres.ts'
import { waitFor } from '../helpers/wait-for.ts'

/** A pool on an empty database, and what it logged. */
async function open(t: Test, max = 2) {
  const { url } = await testDatabase(t)
  const lines: string[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => lines.push(line) })
  const database = openDatabase({ url, max, log, applicationName: 'database-test' })
  t.teardown(() => database.close())
  const other = openDatabase({ url, max: 1, log: silentLog(), applicationName: 'the-other' })
  t.teardown(() => other.close())
  return {
    url,
    database,
    lines,
    /** Ends the session of that process as an administrator would. */
    async terminate(pid: number): Promise<void> {
      await other.withClient((client) => client.query('SELECT pg_terminate_backend($1)', [pid]))
      await waitFor('the session to end', () =>
        other.withClient(async (client) => {
          const { rows } = await client.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid])
          return rows.length === 0
        })
      )
    },
    pid() {
      return database.withClient(async (client) => {
        const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
        return rows[0]?.pid ?? 0
      })
    },
    async names(): Promise<string[]> {
      const { rows } = await other.withClient((client) =>
        client.query<{ name: string }>('SELECT name FROM things ORDER BY name')
      )
      return rows.map((row) => row.name)
    }
  }
}

t.test("other tools' URLs are understood", (t) => {
  const forms = [
    ['postgres://u:p@h/d', 'postgresql://u:p@h/d'],
    [' postgresql://u@h:6543/d\n', 'postgresql://u@h:6543/d'],
    ['postgresql+asyncpg://u:p@h:5432/d?ssl=require', 'postgresql://u:p@h:5432/d?sslmode=require'],
    ['postgresql+psycopg2://u:p@h/d?sslmode=verify-full', 'postgresql://u:p@h/d?sslmode=verify-full'],
    ['postgresql+asyncpg://u:p%40ss%23@h/d?ssl=disable', 'postgresql://u:p%40ss%23@h/d?sslmode=disable'],
    ['timescaledb+psycopg://h/d?sslmode=no-verify', 'postgresql://h/d?sslmode=require'],
    ['postgres://h/d?ssl=true', 'postgresql://h/d?sslmode=verify-full'],
    ['postgres://h/d?ssl=false&prepared_statement_cache_size=0', 'postgresql://h/d?sslmode=disable'],
    ['postgresql:///d?host=/var/run/postgresql&port=5433', 'postgresql:///d?host=%2Fvar%2Frun%2Fpostgresql&port=5433'],
    ['postgresql://u@[::1]:5432/d', 'postgresql://u@[::1]:5432/d'],
    ['postgresql://h/d?options=-c%20search_path%3Dplant', 'postgresql://h/d?options=-c%20search_path%3Dplant']
  ]
  for (const [given, expected] of forms) {
    t.equal(normalizeDatabaseUrl(given ?? ''), expected)
    t.equal(normalizeDatabaseUrl(expected ?? ''), expected, 'once is enough')
  }
  t.end()
})

t.test('a URL gives the parts of an address', (t) => {
  t.same(parseDatabaseUrl('postgresql+asyncpg://us%C3%A9r:p%40ss@db.plant:6543/mill%20race'), {
    host: 'db.plant',
    port: 6543,
    user: 'usér',
    password: 'p@ss',
    database: 'mill race',
    options: '',
    ssl: false
  })
  t.match(parseDatabaseUrl('postgresql:///d?host=/run/pg'), {
    host: '/run/pg',
    port: 5432,
    user: undefined,
    database: 'd'
  })
  t.equal(parseDatabaseUrl('postgresql://%2Frun%2Fpg/d').host, '/run/pg')
  t.equal(parseDatabaseUrl('postgresql://[::1]/d').host, '::1')
  t.end()
})

t.test('require encrypts without checking the server, verify-full checks it, prefer asks for nothing', (t) => {
  const ssl = (query: string) => parseDatabaseUrl(`postgresql://h/d?${query}`).ssl
  t.same(ssl('ssl=require'), { rejectUnauthorized: false })
  t.same(ssl('sslmode=verify-full'), {})
  t.same(ssl('ssl=true'), {})
  for (const query of ['', 'sslmode=disable', 'sslmode=prefer', 'sslmode=allow']) t.equal(ssl(query), false, query)
  const own = ssl(`sslmode=require&sslrootcert=${encodeURIComponent(import.meta.filename)}`)
  t.match(own, { ca: /sslrootcert/, checkServerIdentity: Function })
  t.not(own === false ? undefined : own.rejectUnauthorized, false, 'with a root of its own, require checks the chain')
  t.end()
})

t.test('a URL that makes no sense is refused without showing the password', (t) => {
  const urls = [
    'mysql://u:hush@h/d',
    'postgresql://u:hush#x@h:port/d',
    'host=h password=hush',
    'postgresql://u:hush@h/d?sslmode=maybe',
    'postgresql://u:hush@h/d?sslmode=verify-ca&sslrootcert=/no/such/file'
  ]
  for (const url of urls) {
    const error = thrownBy(() => openDatabase({ url, log: silentLog(), applicationName: 'x' }))
    t.match(error, { code: 'config_invalid', message: /^DATABASE_URL/ }, url)
    t.notMatch(String(error), 'hush')
  }
  t.end()
})

function thrownBy(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  return null
}

t.test('a redacted URL has no password anywhere', (t) => {
  t.equal(redactUrl('postgresql+asyncpg://u:hush@h:1/d?ssl=require'), 'postgresql+asyncpg://u:***@h:1/d?ssl=require')
  t.equal(redactUrl('postgresql://u@h/d'), 'postgresql://u@h/d')
  t.notMatch(redactUrl('postgresql://h/d?user=u&password=hush&sslpassword=hush'), 'hush')
  t.equal(redactUrl('u:hush@h'), '[unreadable url]')
  t.end()
})

t.test('each session is set to wait for nothing for ever, to commit synchronously, and to UTC', async (t) => {
  const { database } = await open(t)
  const names = [
    'transaction_isolation',
    'synchronous_commit',
    'statement_timeout',
    'lock_timeout',
    'idle_in_transaction_session_timeout',
    'TimeZone',
    'application_name',
    'tcp_keepalives_idle',
    'tcp_keepalives_interval',
    'tcp_keepalives_count'
  ]
  const { rows } = await database.withClient((client) =>
    client.query<{ setting: string }>('SELECT current_setting(name) AS setting FROM unnest($1::text[]) AS name', [
      names
    ])
  )
  t.same(
    rows.map((row) => row.setting),
    ['read committed', 'on', '1min', '10s', '30s', 'UTC', 'database-test', '10', '5', '3']
  )
})

t.test("the URL's own server options are kept, ours come after them", async (t) => {
  const { url } = await testDatabase(t)
  const given = new URL(url)
  given.searchParams.set('options', '-c work_mem=5MB -c statement_timeout=1ms')
  const database = openDatabase({ url: given.href, log: silentLog(), applicationName: 'x' })
  t.teardown(() => database.close())
  const { rows } = await database.withClient((client) =>
    client.query(`SELECT current_setting('work_mem') AS work_mem, current_setting('statement_timeout') AS timeout`)
  )
  t.same(rows, [{ work_mem: '5MB', timeout: '1min' }])
})

t.test('a statement may take as long as was said, 0 is for ever', async (t) => {
  const { url } = await testDatabase(t)
  const open = (statementTimeoutMs: number) => {
    const database = openDatabase({ url, log: silentLog(), applicationName: 'x', statementTimeoutMs })
    t.teardown(() => database.close())
    return database
  }
  await t.rejects(
    open(100).withClient((client) => client.query('SELECT pg_sleep(20)')),
    { code: '57014' }
  )
  const { rows } = await open(0).withClient((client) => client.query('SHOW statement_timeout'))
  t.same(rows, [{ statement_timeout: '0' }])
})

t.test('a bigint is a number while that is exact', async (t) => {
  const { database } = await open(t)
  const { rows } = await database.withClient((client) =>
    client.query(`SELECT 9007199254740991 AS a, 9007199254740992 AS b, -9223372036854775808 AS c, NULL::bigint AS d`)
  )
  t.strictSame(rows, [{ a: 9_007_199_254_740_991, b: 9_007_199_254_740_992n, c: -9_223_372_036_854_775_808n, d: null }])
})

t.test('a transaction is stored whole or not at all', async (t) => {
  const { database, names, pid } = await open(t, 1)
  const before = await pid()
  t.equal(
    await database.transaction(async (client) => {
      await client.query('CREATE TABLE things (name text PRIMARY KEY)')
      await client.query(`INSERT INTO things (name) VALUES ('kept')`)
      return 'the result'
    }),
    'the result'
  )
  await t.rejects(
    database.transaction(async (client) => {
      await client.query(`INSERT INTO things (name) VALUES ('lost')`)
      await client.query('SELECT 1 / 0')
    }),
    { code: '22012' }
  )
  await t.rejects(
    database.transaction(async (client) => {
      await client.query(`INSERT INTO things (name) VALUES ('lost too')`)
      throw new Error('changed my mind')
    }),
    { message: 'changed my mind' }
  )
  t.same(await names(), ['kept'])
  t.equal(await pid(), before, 'the connection was kept')
})

t.test('a transaction whose error was swallowed is not taken for committed', async (t) => {
  const { database, names } = await open(t)
  await database.withClient((client) => client.query('CREATE TABLE things (name text PRIMARY KEY)'))
  await t.rejects(
    database.transaction(async (client) => {
      await client.query(`INSERT INTO things (name) VALUES ('a')`)
      await client.query(`INSERT INTO things (name) VALUES ('a')`).catch(() => {})
    }),
    { message: /ROLLBACK/ }
  )
  t.same(await names(), [])
})

t.test('a connection left inside a transaction is not handed on', async (t) => {
  const { database, pid } = await open(t, 1)
  const first = await pid()
  await database.withClient((client) => client.query('BEGIN'))
  const second = await pid()
  t.not(second, first)
  await t.rejects(
    database.withClient(async (client) => {
      await client.query('BEGIN')
      throw new Error('forgot to end it')
    })
  )
  t.not(await pid(), second)
})

t.test('an idle connection that the server ends is logged and replaced', async (t) => {
  const { pid, terminate, lines } = await open(t, 1)
  const first = await pid()
  await terminate(first)
  const line = await waitFor('the log', () => lines.find((text) => text.includes('idle database connection lost')))
  t.match(JSON.parse(line), { level: 40, sqlstate: '57P01', reason: /terminating connection/ })
  t.ok(line.length < 400, 'and nothing else of the connection is logged')
  t.not(await pid(), first)
})

t.test('a connection that breaks while it is lent out ends the work, not the process', async (t) => {
  const { database, pid, terminate, names } = await open(t, 1)
  await database.withClient((client) => client.query('CREATE TABLE things (name text)'))
  const error: unknown = await database
    .transaction(async (client) => {
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      await client.query(`INSERT INTO things (name) VALUES ('lost')`)
      await terminate(rows[0]?.pid ?? 0)
      await client.query(`INSERT INTO things (name) VALUES ('lost as well')`)
    })
    .catch((thrown: unknown) => thrown)
  t.ok(transient(error), String(error))
  t.match(error, { code: 'connection_lost' })
  t.same(await names(), [])
  t.ok(await pid(), 'the pool goes on')
})

t.test('a connection that breaks in the middle of a statement is a transient error', async (t) => {
  const { database, pid, terminate } = await open(t, 2)
  const error: unknown = await database
    .transaction(async (client) => {
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      await Promise.all([client.query('SELECT pg_sleep(20)'), terminate(rows[0]?.pid ?? 0)])
    })
    .catch((thrown: unknown) => thrown)
  t.equal(sqlstateOf(error), '57P01')
  t.equal(classify(error), 'transient')
  t.ok(await pid())
})

t.test('a server that is not there, and a database that is not, are said to be unreachable', async (t) => {
  const { url } = await testDatabase(t)
  const nowhere = new URL(url)
  nowhere.port = String(await freePort())
  const missing = new URL(url)
  missing.pathname = '/no_such_database'
  for (const [target, reason] of [
    [nowhere, /ECONNREFUSED/],
    [missing, /"no_such_database" does not exist/]
  ] as const) {
    const database = openDatabase({ url: target.href, log: silentLog(), applicationName: 'x' })
    t.teardown(() => database.close())
    const error: unknown = await database.withClient(async () => {}).catch((thrown: unknown) => thrown)
    t.match(error, { code: 'database_unreachable', message: reason, hint: /DATABASE_URL/ })
    t.ok(transient(error))
    if (target.password !== '') t.notMatch(String(error), target.password)
  }
})

t.test('a server that takes the connection and says nothing is given up after 5 s', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => {}).resume())
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  t.teardown(() => new Promise((resolve) => silent.close(resolve)))
  const url = `postgresql://u@127.0.0.1:${portOf(silent.address())}/d`
  const database = openDatabase({ url, log: silentLog(), applicationName: 'x' })
  t.teardown(() => database.close())
  const start = performance.now()
  await t.rejects(
    database.withClient(async () => {}),
    { code: 'database_unreachable' }
  )
  t.ok(performance.now() - start < 7_000)
})

function portOf(address: AddressInfo | string | null): number {
  return address !== null && typeof address === 'object' ? address.port : 0
}

t.test('a closed database waits for what is lent out, then lends no more', async (t) => {
  const { database, lines } = await open(t)
  let finished = false
  const work = database.withClient(async (client) => {
    await client.query('SELECT pg_sleep(0.2)')
    finished = true
  })
  await database.withClient(async () => {})
  await Promise.all([database.close(), database.close()])
  t.ok(finished)
  await work
  await t.rejects(
    database.withClient(async () => {}),
    { code: 'closed' }
  )
  await t.rejects(
    database.transaction(async () => {}),
    { code: 'closed' }
  )
  t.same(lines, [])
})

t.test('an SQLSTATE says whether another try is worth it', (t) => {
  const kinds = {
    transient: ['08006', '08P01', '25006', '28P01', '3D000', '40001', '40P01', '53100', '53200', '53300', '55P03'],
    duplicate: ['23505'],
    permanent: ['22003', '22021', '23502', '23514', '42501', '42703', '42P01', '54000', 'XX000', '25P02', '40002']
  }
  kinds.transient.push('57014', '57P01', '57P03')
  for (const [kind, states] of Object.entries(kinds)) {
    for (const code of states) t.equal(classify(Object.assign(new Error('x'), { code })), kind, code)
  }
  t.end()
})

t.test('an error without an SQLSTATE is nothing against the data', (t) => {
  for (const code of ['EPIPE', 'ECONNRESET', 'ECONNREFUSED', 'ETIMEDOUT', 'EBUSY']) {
    const error = Object.assign(new Error('x'), { code })
    t.equal(sqlstateOf(error), null, code)
    t.equal(classify(error), 'transient', code)
  }
  t.equal(classify(new Error('Connection terminated unexpectedly')), 'transient')
  t.equal(classify(new AppError('connection_lost', 'x')), 'transient')
  const refused = Object.assign(new Error('x'), { code: '22021' })
  t.equal(classify(new AppError('connection_lost', 'x', { cause: refused })), 'permanent', 'the cause is looked at')
  t.equal(sqlstateOf('text'), null)
  t.end()
})
