// Events that are committed and wait for their turn. Part of the transaction that commits their batch.
//
// Guarantees: an event counts once in its gateway, whatever epoch and batch it comes in; the same id with another content
// is refused as a conflict; what PostgreSQL can't take is refused alone.
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { maintenanceEvent } from '../../shared/event.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import type { Client } from '../database.ts'
import { instantText } from '../ingest/instant.ts'
import type { RowRefusal } from '../ingest/rows.ts'
import { salvage } from '../ingest/salvage.ts'

export type Incoming = { gateway: string; epoch: string; batch: number; seq: number; event: MaintenanceEvent }

export type Taken = { duplicates: Incoming[]; refused: { incoming: Incoming; refusal: RowRefusal }[] }

/** What is known of an event under an id. `digest` is null in rows that were written before there were digests. */
type Content = { task: string; state: string; digest: Buffer | null }

/** Orders all work on a gateway's tasks. Held to the end of the transaction. `gateways` are sorted. */
export async function lockGateways(client: Client, gateways: readonly string[]): Promise<void> {
  for (const gateway of gateways) {
    await client.query({
      name: 'lock_maintenance',
      text: `SELECT pg_advisory_xact_lock(hashtextextended('millrace.maintenance.' || $1, 0))`,
      values: [gateway]
    })
  }
}

/** @throws TableFault when the inbox takes no event at all */
export async function takeEvents(client: Client, incoming: readonly Incoming[], stubborn: boolean): Promise<Taken> {
  const taken: Taken = { duplicates: [], refused: [] }
  const storable = incoming.filter((item) => {
    if (!hasNul(item.event)) return true
    taken.refused.push({
      incoming: item,
      refusal: { reason: 'refused_by_database', detail: 'a text contains NUL', sqlstate: '22021' }
    })
    return false
  })
  const known = await findKnown(client, storable)
  const fresh: Incoming[] = []
  for (const item of storable) {
    const content = contentOf(item.event)
    const before = known.get(keyOf(item))
    if (before === undefined) {
      known.set(keyOf(item), content)
      fresh.push(item)
    } else if (sameContent(before, content)) {
      taken.duplicates.push(item)
    } else {
      const detail = `the event ${item.event.id} is known with another content: task ${before.task} became ${before.state}`
      taken.refused.push({ incoming: item, refusal: { reason: 'conflict', detail, sqlstate: null } })
    }
  }
  if (fresh.length === 0) return taken
  const { refused } = await salvage({
    client,
    items: fresh,
    stubborn,
    store: (some) => insert(client, some),
    probe: () => insert(client, [PROBE])
  })
  for (const { item, sqlstate, message } of refused) {
    taken.refused.push({ incoming: item, refusal: { reason: 'refused_by_database', detail: message, sqlstate } })
  }
  return taken
}

const PROBE: Incoming = {
  gateway: 'probe',
  epoch: 'probe',
  batch: 1,
  seq: 1,
  event: {
    id: 'millrace/probe',
    task: 'probe',
    state: 'pending',
    equipment: null,
    sensor: null,
    title: null,
    by: null,
    note: null,
    timestampUs: 0,
    receivedUs: 0,
    topic: ''
  }
}

function keyOf({ gateway, event }: Incoming): string {
  return `${gateway}/${event.id}`
}

function contentOf(event: MaintenanceEvent): Content {
  return { task: event.task, state: event.state, digest: digestOf(event) }
}

/** Of all that the event says. When and through which topic it came in this time is not part of that. */
export function digestOf(event: MaintenanceEvent): Buffer {
  const { id, task, state, equipment, sensor, title, by, note, timestampUs } = event
  const said = JSON.stringify([id, task, state, equipment, sensor, title, by, note, timestampUs])
  return createHash('sha256').update(said).digest()
}

function sameContent(known: Content, content: Content): boolean {
  if (known.digest === null || content.digest === null)
    return known.task === content.task && known.state === content.state
  return known.digest.equals(content.digest)
}

function hasNul(event: MaintenanceEvent): boolean {
  return Object.values(event).some((value) => typeof value === 'string' && value.includes('\0'))
}

type KnownRow = { gateway_id: string; event_id: string; task: string; state: string; digest: Buffer | null }

async function findKnown(client: Client, incoming: readonly Incoming[]): Promise<Map<string, Content>> {
  const { rows } = await client.query<KnownRow>({
    name: 'find_events',
    text: `
      WITH wanted AS (
        SELECT DISTINCT gateway_id, event_id FROM unnest($1::text[], $2::text[]) AS wanted (gateway_id, event_id)
      )
      SELECT
        logs.gateway_id,
        logs.event_id,
        tasks.task,
        logs.to_state AS state,
        logs.digest
      FROM wanted
      JOIN maintenance_logs AS logs USING (gateway_id, event_id)
      JOIN maintenance_tasks AS tasks ON tasks.id = logs.task_id
      UNION ALL
      SELECT
        inbox.gateway_id,
        inbox.event_id,
        inbox.body ->> 'task',
        inbox.body ->> 'state',
        inbox.digest
      FROM wanted
      JOIN maintenance_inbox AS inbox USING (gateway_id, event_id)`,
    values: [incoming.map((item) => item.gateway), incoming.map((item) => item.event.id)]
  })
  return new Map(
    rows.map((row) => [`${row.gateway_id}/${row.event_id}`, { task: row.task, state: row.state, digest: row.digest }])
  )
}

async function insert(client: Client, incoming: readonly Incoming[]): Promise<void> {
  await client.query({
    name: 'insert_events',
    text: `
      INSERT INTO maintenance_inbox (gateway_id, epoch, batch, seq, event_id, body, digest, received_at)
      SELECT * FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::jsonb[], $7::bytea[], $8::timestamptz[]
      )`,
    values: [
      incoming.map((item) => item.gateway),
      incoming.map((item) => item.epoch),
      incoming.map((item) => item.batch),
      incoming.map((item) => item.seq),
      incoming.map((item) => item.event.id),
      incoming.map((item) => JSON.stringify(item.event)),
      incoming.map((item) => digestOf(item.event)),
      incoming.map((item) => instantText(item.event.receivedUs))
    ]
  })
}

/** An event whose turn has come. `stranded`: events before it never came, and their epoch is over. */
export type Turn = { event: MaintenanceEvent; stranded: boolean }

const inboxRow = z.object({ body: maintenanceEvent, stranded: z.boolean() })

/**
 * The events of a lane whose turn has come, in the order of applying, taken out of the inbox. They begin with those that
 * wait in epochs older than this one, if anything of this one is dense: the gateway has gone on, so what they wait for
 * will not come. (A batch of an old epoch that arrives all the same is applied then, as late as it is.)
 */
export async function takeTurn(client: Client, gateway: string, epoch: string, denseBatch: number): Promise<Turn[]> {
  if (denseBatch === 0) return []
  const { rows } = await client.query({
    name: 'take_turn',
    text: `
      WITH lanes AS (
        SELECT lane.epoch, lane.first_commit_at
        FROM ingest_lanes AS lane
        WHERE lane.gateway_id = $1 AND lane.lane = 'maintenance'
      ), older AS (
        SELECT lanes.epoch, lanes.first_commit_at
        FROM lanes
        JOIN lanes AS own ON own.epoch = $2
        WHERE (lanes.first_commit_at, lanes.epoch) < (own.first_commit_at, own.epoch)
      ), taken AS (
        DELETE FROM maintenance_inbox
        WHERE gateway_id = $1
          AND (epoch = $2 AND batch <= $3 OR epoch IN (SELECT epoch FROM older))
        RETURNING epoch, batch, seq, body
      )
      SELECT taken.body, older.epoch IS NOT NULL AS stranded
      FROM taken
      LEFT JOIN older ON older.epoch = taken.epoch
      ORDER BY older.first_commit_at NULLS LAST, taken.epoch, taken.batch, taken.seq`,
    values: [gateway, epoch, denseBatch]
  })
  return rows.map((row) => {
    const { body, stranded } = inboxRow.parse(row)
    return { event: body, stranded }
  })
}
