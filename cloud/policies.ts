// When chunks are compressed and dropped: intervals from configuration, set after the migrations as often as you like.
import { z } from 'zod'
import type { SqlClient } from './database.ts'
import type { EngineKind } from './engine.ts'

export type Policies = {
  /** Readings older than this are dropped; 0: never. Days. */
  retentionDays: number
  /** Chunks older than this are compressed; 0: never. Days. */
  compressAfterDays: number
}

type Policy = {
  /** What it does, for a person. */
  verb: string
  procedure: string
  /** Where the job's settings hold the interval. */
  setting: string
  days: number
  add: string
  remove: string
}

const HYPERTABLE = 'sensor_readings'

function policiesOf(policies: Policies): Policy[] {
  return [
    {
      verb: 'compression',
      procedure: 'policy_compression',
      setting: 'compress_after',
      days: policies.compressAfterDays,
      add: 'SELECT add_compression_policy($1::regclass, make_interval(days => $2::integer))',
      remove: 'SELECT remove_compression_policy($1::regclass, if_exists => true)'
    },
    {
      verb: 'retention',
      procedure: 'policy_retention',
      setting: 'drop_after',
      days: policies.retentionDays,
      add: 'SELECT add_retention_policy($1::regclass, make_interval(days => $2::integer))',
      remove: 'SELECT remove_retention_policy($1::regclass, if_exists => true)'
    }
  ]
}

/**
 * Sets the intervals, each in one transaction, and only where they differ from what is set.
 * @returns what was changed, a line each; nothing when all was so already, or the engine has no policies (the bridge's
 * own jobs do it there).
 */
export async function applyPolicies(client: SqlClient, engine: EngineKind, policies: Policies): Promise<string[]> {
  if (engine !== 'timescale') return []
  const changes: string[] = []
  for (const policy of policiesOf(policies)) {
    const current = await currentDays(client, policy)
    if (current === (policy.days === 0 ? null : policy.days)) continue
    await client.query('BEGIN')
    try {
      await client.query(policy.remove, [HYPERTABLE])
      if (policy.days > 0) await client.query(policy.add, [HYPERTABLE, policy.days])
      await client.query('COMMIT')
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    }
    changes.push(policy.days === 0 ? `${policy.verb} off` : `${policy.verb} after ${policy.days} days`)
  }
  return changes
}

const intervalRow = z.object({ days: z.coerce.number().nullable() })

/** The interval that is set, in days, a fraction where it is none; null when there is no such policy. */
async function currentDays(client: SqlClient, policy: Policy): Promise<number | null> {
  const { rows } = await client.query(
    `
      SELECT extract(epoch FROM (config ->> $3)::interval) / 86400 AS days
      FROM timescaledb_information.jobs
      WHERE hypertable_schema = current_schema()
        AND hypertable_name = $1
        AND proc_name = $2
    `,
    [HYPERTABLE, policy.procedure, policy.setting]
  )
  const [row] = rows
  return row === undefined ? null : intervalRow.parse(row).days
}
