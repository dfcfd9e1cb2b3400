// Faults of the table hold and resume; faults of the connection are settled by the ledger; neither costs a record.
import { connect, createServer } from 'node:net'
import t from 'tap'
import { BASE_US, createChain, ramp } from '../helpers/batches.ts'
import { listen } from '../helpers/aedes-broker.ts'
import { NOW_MS, openIngest, openSession, unbalanced, writeAll } from '../helpers/ingest.ts'
import type { IngestBench } from '../helpers/ingest.ts'
import { waitFor } from '../helpers/wait-for.ts'

const committed = { result: 'committed', reason: null, stored: 0, duplicates: 0, deadLetters: 0 }

/** Backends of the writers that wait for a lock. */
async function blocked(bench: IngestBench): Promise<number[]> {
  const rows = await bench.sql<{ pid: number }>(`
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'writer' AND wait_event_type = 'Lock'`)
  return rows.map(({ pid }) => pid)
}

/** The bench's database as a role with the bridge's rights and no more. */
async function leastRights(
  t: { teardown(done: () => Promise<void>): void },
  bench: IngestBench
): Promise<{ url: string; role: string }> {
  const url = new URL(bench.url)
  const role = `bridge_${url.pathname.slice(1)}`
  await bench.sql(`CREATE ROLE ${role} LOGIN PASSWORD 'bridge'`)
  t.teardown(async () => {
    await bench.sql(`DROP OWNED BY ${role}`)
    await bench.sql(`DROP ROLE ${role}`)
  })
  await bench.sql(`
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role};
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ${role};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO ${role}`)
  url.username = role
  url.password = 'bridge'
  return { url: url.href, role }
}

for (const fault of [
  {
    name: 'a check constraint that refuses every row',
    sqlstate: '23514',
    make: 'ALTER TABLE sensor_readings ADD CONSTRAINT never CHECK (quality < 0)',
    mend: 'ALTER TABLE sensor_readings DROP CONSTRAINT never'
  },
  {
    name: 'a new NOT NULL column',
    sqlstate: '23502',
    make: 'ALTER TABLE sensor_readings ADD COLUMN shift text; ALTER TABLE sensor_readings ADD CONSTRAINT c CHECK (true); ALTER TABLE sensor_readings ALTER COLUMN shift SET NOT NULL',
    mend: `ALTER TABLE sensor_readings ALTER COLUMN shift SET DEFAULT 'early'`
  },
  {
    name: 'a sensors table that takes none',
    sqlstate: '23514',
    make: `ALTER TABLE sensors ADD CONSTRAINT never CHECK (gateway_id = 'nobody')`,
    mend: 'ALTER TABLE sensors DROP CONSTRAINT never'
  },
  {
    name: 'a missing column of the ledger',
    sqlstate: '42703',
    make: 'ALTER TABLE ingest_batches RENAME COLUMN touched TO felt',
    mend: 'ALTER TABLE ingest_batches RENAME COLUMN felt TO touched'
  }
]) {
  t.test(`${fault.name} holds, and all is stored when it is mended`, async (t) => {
    const bench = await openIngest(t)
    const writer = bench.writer()
    const chain = createChain('g')
    const batches = Array.from({ length: 4 }, (_, index) =>
      chain.readings(ramp(400, { fromUs: BASE_US + index * 3_600_000_000 }))
    )
    if (fault.name.includes('NOT NULL')) await bench.sql('TRUNCATE sensor_readings')
    await bench.sql(fault.make)
    const outcomes = writeAll(writer, batches)
    await waitFor('the writer to hold', () => writer.state().held?.sqlstate === fault.sqlstate)
    t.match(writer.state().held, { since: /^2026-/, hint: /goes on by itself/ })
    t.equal(writer.state().waiting, 4)
    t.same(
      await bench.sql('SELECT (SELECT count(*) FROM ingest_batches) + (SELECT count(*) FROM dead_letters) AS count'),
      [{ count: 0 }]
    )
    await bench.sql(fault.mend)
    t.same(
      await outcomes,
      batches.map(() => ({ ...committed, stored: 400 }))
    )
    t.equal(writer.state().held, null)
    t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 1_600 }])
    t.same(await unbalanced(bench), [])
  })
}

t.test('a constraint that refuses ordinary readings, but not all of these, is no fault of the table', async (t) => {
  const bench = await openIngest(t)
  await bench.sql('ALTER TABLE sensor_readings ADD CONSTRAINT hot CHECK (value > 5)')
  const batch = createChain('g').readings(ramp(100))
  t.same(await bench.writer().write([batch.arrived]), [{ ...committed, stored: 79, deadLetters: 21 }])
  t.same(await bench.sql('SELECT count(*), min(value) FROM sensor_readings'), [{ count: 79, min: 5.25 }])
  t.same(await unbalanced(bench), [])
})

t.test('a row that is refused keeps no old data from the table where the partition for now is missing', async (t) => {
  const bench = await openIngest(t)
  if (bench.engine.kind === 'timescale') return t.pass('hypertables make their chunks themselves')
  const partitions = await bench.sql<{ name: string }>(
    `SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'sensor_readings'::regclass`
  )
  for (const { name } of partitions) await bench.sql(`DROP TABLE ${name}`)
  await bench.sql('ALTER TABLE sensor_readings ADD CONSTRAINT cold CHECK (value <> 7)')
  const readings = [1, 2, 7, 4].map((value, index) => ({
    sensor: 's',
    timestampUs: BASE_US - 60 * 86_400_000_000 + index,
    value
  }))
  const writer = bench.writer()
  const outcomes = writer.write([createChain('g').readings(readings).arrived])
  await waitFor('the batch to be stored or held', () => writer.state().transactions === 1 || writer.state().held)
  t.equal(writer.state().held, null)
  t.same(await outcomes, [{ ...committed, stored: 3, deadLetters: 1 }])
})

t.test('a wall clock that is set back lengthens no wait', async (t) => {
  const bench = await openIngest(t)
  let nowMs = NOW_MS
  const writer = bench.writer({ now: () => nowMs, ownerTtlMs: 20 })
  const [own, other] = [createChain('own'), createChain('other')]
  const reading = (offsetUs: number) => [{ sensor: 's', timestampUs: BASE_US + offsetUs, value: 1 }]
  await writer.write([own.readings(reading(0)).arrived])
  t.match(await writer.write([other.readings(reading(1)).arrived]), [{ stored: 0, deadLetters: 1 }])
  await bench.sql('UPDATE sensors SET shared = true')
  nowMs -= 3_600_000
  let offsetUs = 2
  await waitFor('the owner to be asked for again', async () => {
    const [outcome] = await writer.write([other.readings(reading(offsetUs++)).arrived])
    return outcome?.stored === 1
  })
  nowMs += 3_600_000
  await bench.sql('ALTER TABLE sensor_readings ADD CONSTRAINT never CHECK (quality < 0) NOT VALID')
  const outcomes = writer.write([own.readings(reading(-1)).arrived])
  await waitFor('the writer to hold', () => writer.state().held)
  nowMs -= 3_600_000
  await bench.sql('ALTER TABLE sensor_readings DROP CONSTRAINT never')
  await waitFor('the batch to be stored', () => writer.state().waiting === 0)
  t.match(await outcomes, [{ stored: 1 }])
})

t.test('a revoked right holds, and all is stored when it is granted again', async (t) => {
  const bench = await openIngest(t)
  const { url, role } = await leastRights(t, bench)
  const writer = bench.writer({ url })
  const chain = createChain('g')
  t.match(await writer.write([chain.readings(ramp(10)).arrived]), [{ ...committed, stored: 10 }])
  await bench.sql(`REVOKE INSERT ON sensor_readings FROM ${role}`)
  const outcomes = writer.write([chain.readings(ramp(5_000, { fromUs: BASE_US + 1 })).arrived])
  await waitFor('the writer to hold', () => writer.state().held?.sqlstate === '42501')
  t.match(writer.state().held, { message: /permission denied/, hint: /grant/ })
  await bench.sql(`GRANT INSERT ON sensor_readings TO ${role}`)
  t.same(await outcomes, [{ ...committed, stored: 5_000 }])
  t.same(await bench.sql('SELECT count(*) FROM dead_letters'), [{ count: 0 }])
})

t.test('a role with the least rights stores through every way, partitions included', async (t) => {
  const bench = await openIngest(t)
  const { url } = await leastRights(t, bench)
  const writer = bench.writer({ url })
  const chain = createChain('g')
  await writer.write([chain.readings(ramp(10)).arrived])
  const mixed = chain.readings([
    ...ramp(5),
    { sensor: 's0', timestampUs: BASE_US, value: 9 },
    { sensor: 'new', timestampUs: BASE_US - 30 * 86_400_000_000 }
  ])
  t.same(await writer.write([mixed.arrived]), [{ ...committed, stored: 1, duplicates: 5, deadLetters: 1 }])
  t.match(await writer.write([chain.events([{ id: 'e', task: 't' }]).arrived]), [{ stored: 1 }])
})

t.test('a connection that is killed during COPY costs nothing', async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  const chain = createChain('g')
  await writer.write([chain.readings(ramp(10)).arrived])
  const locker = await openSession(t, bench.url)
  await locker.query('BEGIN; LOCK TABLE sensor_readings IN ACCESS EXCLUSIVE MODE')
  const outcomes = writeAll(
    writer,
    Array.from({ length: 5 }, (_, index) => chain.readings(ramp(2_000, { fromUs: BASE_US + index + 1 })))
  )
  for (let round = 0; round < 3; round++) {
    const pids = await waitFor('the COPY to wait for the lock', async () => {
      const found = await blocked(bench)
      return found.length > 0 && found
    })
    await bench.sql('SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS pid', [pids])
    await waitFor('the backend to be gone', async () => !(await blocked(bench)).some((pid) => pids.includes(pid)))
  }
  await locker.query('ROLLBACK')
  t.same(
    await outcomes,
    Array.from({ length: 5 }, () => ({ ...committed, stored: 2_000 }))
  )
  t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 10_010 }])
  t.same(await unbalanced(bench), [])
})

for (const { name, forward } of [
  { name: 'COMMIT is done and its answer lost', forward: true },
  { name: 'COMMIT is lost', forward: false }
]) {
  t.test(`when ${name}, the ledger settles it and the batch is stored once`, async (t) => {
    const bench = await openIngest(t)
    const target = new URL(bench.url)
    let cuts = 0
    const proxy = createServer((client) => {
      const server = connect(Number(target.port), target.hostname)
      let cut = false
      client.on('error', () => server.destroy())
      server.on('error', () => client.destroy())
      client.on('close', () => server.end())
      server.on('close', () => client.destroy())
      server.on('data', (bytes) => cut || client.write(bytes))
      client.on('data', (bytes) => {
        if (cuts < 6 && bytes.includes('COMMIT\0') && !cut) {
          cuts += 1
          cut = true
          if (forward) server.write(bytes)
          client.destroy()
        } else server.write(bytes)
      })
    })
    const port = await listen(proxy)
    t.teardown(() => {
      proxy.close()
    })
    target.port = String(port)
    const writer = bench.writer({ url: target.href })
    const server = new URL(bench.url)
    target.port = server.port
    const chain = createChain('g')
    const batches = Array.from({ length: 8 }, (_, index) => chain.readings(ramp(3_000, { fromUs: BASE_US + index })))
    const events = chain.events([{ id: 'e1', task: 't' }])
    t.same(await writeAll(writer, [...batches, events]), [
      ...batches.map(() => ({ ...committed, stored: 3_000 })),
      { ...committed, stored: 1 }
    ])
    t.equal(cuts, 6)
    t.same(await bench.sql('SELECT count(*) FROM sensor_readings'), [{ count: 24_000 }])
    t.same(await bench.sql('SELECT count(*) FROM maintenance_logs'), [{ count: 1 }])
    t.same(await unbalanced(bench), [])
  })
}

t.test('a database that is away is waited for', async (t) => {
  const bench = await openIngest(t)
  const target = new URL(bench.url)
  const proxy = createServer((client) => {
    const server = connect(Number(target.port), target.hostname)
    client.pipe(server).pipe(client)
    for (const socket of [client, server]) socket.on('error', () => undefined)
  })
  const port = await listen(proxy)
  await new Promise((resolve) => proxy.close(resolve))
  const away = new URL(bench.url)
  away.port = String(port)
  const writer = bench.writer({ url: away.href })
  const outcomes = writer.write([createChain('g').readings(ramp(10)).arrived])
  await waitFor('the writer to notice', () => writer.state().held !== null)
  t.match(writer.state(), { waiting: 1, held: { sqlstate: null, hint: /database runs/ } })
  await new Promise<void>((resolve) => proxy.listen(port, '127.0.0.1', resolve))
  t.teardown(() => {
    proxy.close()
  })
  t.same(await outcomes, [{ ...committed, stored: 10 }])
})
