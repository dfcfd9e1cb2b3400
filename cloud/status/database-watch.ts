// Looks at the database every two seconds, over a connection of its own: is it there, is the schema, what does the ledger
// say. Whoever asks gets what was last seen, at once: a database that hangs makes nobody wait.
//
//   connecting → up ⇄ down; `silent`: a look has been under way for longer than `SILENT_AFTER_MS`.
import { z } from 'zod'
import { AppError, messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import { pause } from '../../shared/retry.ts'
import { openDatabase } from '../database.ts'
import type { Client } from '../database.ts'
import { detectEngine } from '../engine.ts'
import type { Engine } from '../engine.ts'
import { schemaState } from '../schema.ts'
import type { SchemaState } from '../schema.ts'
import { readLedger } from './ledger.ts'
import type { LedgerFacts } from './ledger.ts'

export type SetPolicies = { retentionDays: number | null; compressAfterDays: number | null }

export type DatabaseState = {
  state: 'connecting' | 'up' | 'down' | 'silent'
  /** Without the password. */
  address: string
  /** Why it isn't up, and the way out; null when it is. */
  problem: string | null
  hint: string | null
  /** Of the last look that found it. The kind is the one that the tables were made for. */
  engine: Engine | null
  schema: SchemaState | null
  /** What the database itself does with old readings; null where the bridge has not asked, or it has no policies. */
  policies: SetPolicies | null
  ledger: LedgerFacts | null
}

export type DatabaseWatch = {
  state(): DatabaseState
  close(): Promise<void>
}

const LOOK_EVERY_MS = 2_000
const SILENT_AFTER_MS = 1_500
const QUERY_TIMEOUT_MS = 10_000
/** Looks between two readings of the schema once it is current. */
const SCHEMA_EVERY = 5

export function watchDatabase(options: {
  url: string
  beforeLook(): void
  /** `found`: null when the database was not reached. */
  afterLook(found: { engine: Engine; schema: SchemaState } | null): void
  everyMs?: number
  log: Log
}): DatabaseWatch {
  const { log } = options
  const database = openDatabase({ url: options.url, max: 1, log, applicationName: 'millrace-bridge-status' })
  const closing = new AbortController()
  let seen: DatabaseState = {
    state: 'connecting',
    address: database.address,
    problem: 'not yet connected',
    hint: null,
    engine: null,
    schema: null,
    policies: null,
    ledger: null
  }
  let lookingSinceMs: number | null = null
  let looks = 0

  async function look(client: Client): Promise<DatabaseState> {
    const schemaIsDue = seen.state !== 'up' || seen.schema?.state !== 'current' || looks % SCHEMA_EVERY === 0
    let { schema, engine, policies } = seen
    if (schemaIsDue || schema === null || engine === null) {
      const found = await detectEngine(client)
      schema = await schemaState(client)
      engine = schema.engine === null ? found : { ...found, kind: schema.engine }
      policies = engine.kind === 'timescale' && schema.state === 'current' ? await readPolicies(client) : null
    }
    const ledger = schema.state === 'current' ? await readLedger(client, QUERY_TIMEOUT_MS) : null
    return { ...seen, state: 'up', problem: null, hint: null, engine, schema, policies, ledger }
  }

  async function lookOnce(): Promise<void> {
    lookingSinceMs = performance.now()
    options.beforeLook()
    try {
      const found = await database.withClient(look)
      if (seen.state !== 'up') log.info({ engine: found.engine?.kind, schema: found.schema?.state }, 'database reached')
      seen = found
    } catch (error) {
      if (closing.signal.aborted) return
      const problem = messageOf(error)
      if (seen.problem !== problem) log.warn({ reason: problem }, 'database not reached')
      seen = { ...seen, state: 'down', problem, hint: error instanceof AppError ? error.hint : null, ledger: null }
    } finally {
      lookingSinceMs = null
    }
    looks += 1
    const { state, engine, schema } = seen
    options.afterLook(state === 'up' && engine !== null && schema !== null ? { engine, schema } : null)
  }

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      await lookOnce()
      await pause(options.everyMs ?? LOOK_EVERY_MS, closing.signal)
    }
  }

  const running = run()

  return {
    state() {
      const lookingMs = lookingSinceMs === null ? 0 : performance.now() - lookingSinceMs
      if (lookingMs < SILENT_AFTER_MS || seen.state === 'down') return seen
      const problem = `the database at ${seen.address} has not answered for ${Math.round(lookingMs / 1_000)} s`
      const hint = 'look whether its server hangs, or the network between drops packets'
      return { ...seen, state: seen.state === 'connecting' ? 'down' : 'silent', problem, hint }
    },
    async close() {
      closing.abort()
      // A look at a silent database may take its time-out; nothing depends on it.
      await Promise.race([running.then(() => database.close()), pause(1_000)])
    }
  }
}

const policyRow = z.object({ proc_name: z.string(), days: z.coerce.number().nullable() })

async function readPolicies(client: Client): Promise<SetPolicies> {
  const { rows } = await client.query(`
    SELECT
      proc_name,
      extract(epoch FROM coalesce(config ->> 'compress_after', config ->> 'drop_after')::interval) / 86400 AS days
    FROM timescaledb_information.jobs
    WHERE hypertable_schema = current_schema()
      AND hypertable_name = 'sensor_readings'
      AND proc_name IN ('policy_compression', 'policy_retention')
  `)
  const days = new Map(
    z
      .array(policyRow)
      .parse(rows)
      .map((row) => [row.proc_name, row.days])
  )
  return {
    retentionDays: days.get('policy_retention') ?? null,
    compressAfterDays: days.get('policy_compression') ?? null
  }
}
