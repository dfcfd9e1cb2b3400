// Events that are committed and wait for their turn. Part of the transaction that commits their batch.
//
// Guarantees: an event counts once in its gateway, whatever epoch and batch it comes in; the same id with another content
// is refused as a conflict; what PostgreSQL can't take is refused alone.
import { z } from 'zod'
import { maintenanceEvent } from '../../shared/event.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import type { Client } from '../database.ts'
import { instantText } from '../ingest/instant.ts'
import type { RowRefusal } from '../ingest/rows.ts'
import { salvage } from '../ingest/salvage.ts'

export type Incoming = { gateway: string; epoch: string; batch: number; seq: number; event: MaintenanceEvent }

export type Taken = { duplicates: Incoming[]; refused: { incoming: Incoming; refusal: RowRefusal }[] }

/** What makes two events with one id the same. */
type Content = { task: string; state: string; by: string | null; note: string | null; atUs: number }

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
  return { task: event.task, state: event.state, by: event.by, note: event.note, atUs: event.timestampUs }
}

function sameContent(a: Content, b: Content): boolean {
  return a.task === b.task && a.state === b.state && a.by === b.by && a.note === b.note && a.atUs === b.atUs
}

function hasNul(event: MaintenanceEvent): boolean {
  return Object.values(event).some((value) => typeof value === 'string' && value.includes('\0'))
}

type KnownRow = {
  gateway_id: string
  event_id: string
  task: string
  state: string
  done_by: string | null
  note: string | null
  at_us: number
}

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
        logs.done_by,
        logs.note,
        (extract(epoch FROM logs.happened_at) * 1000000)::bigint AS at_us
      FROM wanted
      JOIN maintenance_logs AS logs USING (gateway_id, event_id)
      JOIN maintenance_tasks AS tasks ON tasks.id = logs.task_id
      UNION ALL
      SELECT
        inbox.gateway_id,
        inbox.event_id,
        inbox.body ->> 'task',
        inbox.body ->> 'state',
        inbox.body ->> 'by',
        inbox.body ->> 'note',
        (inbox.body ->> 'timestampUs')::bigint
      FROM wanted
      JOIN maintenance_inbox AS inbox USING (gateway_id, event_id)`,
    values: [incoming.map((item) => item.gateway), incoming.map((item) => item.event.id)]
  })
  return new Map(
    rows.map((row) => [
      `${row.gateway_id}/${row.event_id}`,
      { task: row.task, state: row.state, by: row.done_by, note: row.note, atUs: row.at_us }
    ])
  )
}

async function insert(client: Client, incoming: readonly Incoming[]): Promise<void> {
  await client.query({
    name: 'insert_events',
    text: `
      INSERT INTO maintenance_inbox (gateway_id, epoch, batch, seq, event_id, body, received_at)
      SELECT * FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::jsonb[], $7::timestamptz[]
      )`,
    values: [
      incoming.map((item) => item.gateway),
      incoming.map((item) => item.epoch),
      incoming.map((item) => item.batch),
      incoming.map((item) => item.seq),
      incoming.map((item) => item.event.id),
      incoming.map((item) => JSON.stringify(item.event)),
      incoming.map((item) => instantText(item.event.receivedUs))
    ]
  })
}

const inboxRow = z.object({ body: maintenanceEvent })

/** The events of a lane whose turn has come, in the order of applying, taken out of the inbox. */
export async function takeTurn(
  client: Client,
  gateway: string,
  epoch: string,
  denseBatch: number
): Promise<MaintenanceEvent[]> {
  const { rows } = await client.query({
    name: 'take_turn',
    text: `
      WITH taken AS (
        DELETE FROM maintenance_inbox
        WHERE gateway_id = $1 AND epoch = $2 AND batch <= $3
        RETURNING batch, seq, body
      )
      SELECT body FROM taken ORDER BY batch, seq`,
    values: [gateway, epoch, denseBatch]
  })
  return rows.map((row) => inboxRow.parse(row).body)
}
