// What must hold on full TimescaleDB, whatever it runs in: the tests are the same for the server and for WebAssembly.
import type { Test } from 'tap'
import { z } from 'zod'
import type { SqlClient } from '../../cloud/database.ts'
import { detectEngine } from '../../cloud/engine.ts'
import { migrate, schemaState } from '../../cloud/migrate.ts'
import { sqlstateOf } from '../../cloud/sqlstate.ts'
import { silentLog } from '../../shared/log.ts'

const DAY_MS = 86_400_000

const job = z.object({ job_id: z.coerce.number(), proc_name: z.string(), config: z.record(z.string(), z.unknown()) })
const count = z.object({ n: z.coerce.number() })

/** The tests, in order, on one connection to an empty database. */
export async function timescaleSuite(t: Test, client: SqlClient): Promise<void> {
  const now = Date.now()
  const daysAgo = (days: number) => new Date(now - days * DAY_MS)

  function run(retentionDays: number, compressAfterDays: number) {
    return migrate({ client, log: silentLog(), policies: { retentionDays, compressAfterDays } })
  }

  async function jobs() {
    const { rows } = await client.query(`
      SELECT job_id, proc_name, config
      FROM timescaledb_information.jobs
      WHERE hypertable_name = 'sensor_readings'
      ORDER BY proc_name
    `)
    return z.array(job).parse(rows)
  }

  /** Runs a policy's job here and now; the server's own scheduler is kept off it, so that one session works at a time. */
  async function runJob(procedure: string): Promise<void> {
    const found = (await jobs()).find((candidate) => candidate.proc_name === procedure)
    await client.query(`CALL run_job(${found?.job_id})`)
  }

  async function countOf(from: string, values: unknown[] = []): Promise<number> {
    const { rows } = await client.query(`SELECT count(*) AS n FROM ${from}`, values)
    return count.parse(rows[0]).n
  }

  async function insert(sensor: string, timestamp: Date, rest = ''): Promise<number> {
    const { rows } = await client.query(
      `
        INSERT INTO sensor_readings (timestamp, sensor_id, value, quality, received_at)
        VALUES ($1, $2, 21.5, 192, $1)
        ${rest}
        RETURNING id
      `,
      [timestamp, sensor]
    )
    return rows.length
  }

  await t.test('the first migration makes the extension and the hypertable', async (t) => {
    const report = await run(180, 7)
    t.equal(report.engine.kind, 'timescale')
    t.match(report.engine.timescaleVersion, /^2\./)
    t.ok(report.applied.includes('0002_sensor_readings_hypertable.sql'))
    t.same(report.skipped, ['0003_sensor_readings_partitions.sql'])
    t.same(report.policies, ['compression after 7 days', 'retention after 180 days'])
    t.equal((await detectEngine(client)).kind, 'timescale')
    t.match(await schemaState(client), { state: 'current', engine: 'timescale' })
  })

  await t.test('the hypertable is cut by time into 7 days and has no index but its key', async (t) => {
    const { rows: dimensions } = await client.query(`
      SELECT column_name, extract(epoch FROM time_interval)::integer / 86400 AS days
      FROM timescaledb_information.dimensions
      WHERE hypertable_name = 'sensor_readings'
    `)
    t.same(dimensions, [{ column_name: 'timestamp', days: 7 }])
    const { rows: indexes } = await client.query(`
      SELECT indexname
      FROM pg_indexes
      WHERE tablename = 'sensor_readings'
    `)
    t.same(indexes, [{ indexname: 'sensor_readings_pkey' }])
  })

  await t.test('chunks compress by sensor, latest first', async (t) => {
    const { rows } = await client.query(`
      SELECT attname, segmentby_column_index, orderby_column_index, orderby_asc
      FROM timescaledb_information.compression_settings
      WHERE hypertable_name = 'sensor_readings'
      ORDER BY attname
    `)
    t.same(rows, [
      { attname: 'sensor_id', segmentby_column_index: 1, orderby_column_index: null, orderby_asc: null },
      { attname: 'timestamp', segmentby_column_index: null, orderby_column_index: 1, orderby_asc: false }
    ])
  })

  await t.test('a second run changes nothing', async (t) => {
    const before = await jobs()
    t.match(await run(180, 7), { applied: [], skipped: [], policies: [] })
    t.same(await jobs(), before)
  })

  await t.test('other intervals replace the ones that are set', async (t) => {
    t.same((await run(90, 14)).policies, ['compression after 14 days', 'retention after 90 days'])
    const settings = (await jobs()).map(({ config }) => config.compress_after ?? config.drop_after)
    t.same(settings, ['14 days', '90 days'])
  })

  await t.test('an interval of 0 takes the policy away, and another brings it back', async (t) => {
    t.same((await run(0, 0)).policies, ['compression off', 'retention off'])
    t.same(await jobs(), [])
    t.same((await run(0, 0)).policies, [])
    t.equal((await run(180, 7)).policies.length, 2)
  })

  await t.test('the policies compress old chunks and drop those past retention', async (t) => {
    for (const { job_id } of await jobs()) await client.query(`SELECT alter_job(${job_id}, scheduled => false)`)
    for (const days of [0, 30, 400]) await insert('press-07', daysAgo(days))
    t.equal(await countOf(`show_chunks('sensor_readings')`), 3)
    await runJob('policy_retention')
    t.equal(await countOf('sensor_readings'), 2, 'the reading of 400 days ago is dropped')
    await runJob('policy_compression')
    const compressed = `timescaledb_information.chunks WHERE hypertable_name = 'sensor_readings' AND is_compressed`
    t.equal(await countOf(compressed), 1, 'the chunk of 30 days ago is compressed, the present one is not')
    t.equal(await countOf('sensor_readings'), 2)
  })

  await t.test('a duplicate is found in a compressed chunk', async (t) => {
    t.equal(await insert('press-07', daysAgo(30), 'ON CONFLICT DO NOTHING'), 0)
    await t.rejects(insert('press-07', daysAgo(30)), { code: '23505' })
    const error: unknown = await insert('press-07', daysAgo(30)).catch((thrown: unknown) => thrown)
    t.equal(sqlstateOf(error), '23505')
    t.equal(await countOf('sensor_readings'), 2)
  })

  await t.test('a late reading goes into a compressed chunk', async (t) => {
    t.equal(await insert('press-08', daysAgo(30), 'ON CONFLICT DO NOTHING'), 1)
    t.equal(await countOf('sensor_readings WHERE sensor_id = $1', ['press-08']), 1)
  })
}
