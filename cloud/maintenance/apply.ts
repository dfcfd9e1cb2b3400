// Events become changes of tasks, in the order in which the gateway sent them, each once. Part of the ingest transaction,
// under the gateway's lock (inbox.ts).
//
// An event whose predecessors never came, because the gateway went on in a new epoch, is applied with a remark before what
// the new epoch says, and its task is flagged.
//
// An event is a fact: its state is applied also when the states don't allow the change; that is logged, and the task is
// flagged.
import type { MaintenanceEvent, TaskState } from '../../shared/event.ts'
import { TASK_STATES } from '../../shared/event.ts'
import type { Client } from '../database.ts'
import { instantText } from '../ingest/instant.ts'
import { digestOf, takeTurn } from './inbox.ts'
import { isFinal, legal } from './state-machine.ts'

type Task = {
  task: string
  title: string | null
  equipment: string | null
  sensor: string | null
  state: TaskState
  flagged: boolean
  openedUs: number
  updatedUs: number
  closedUs: number | null
}

type Change = { event: MaintenanceEvent; from: TaskState | null; legal: boolean; remark: string | null }

const STRANDED = 'applied although events before it never came: the gateway has gone on in a new epoch'

/** Applies what the lane is dense up to. Returns how many events were applied. */
export async function applyEvents(client: Client, gateway: string, epoch: string, denseBatch: number): Promise<number> {
  const turns = await takeTurn(client, gateway, epoch, denseBatch)
  if (turns.length === 0) return 0
  const tasks = await findTasks(client, gateway, [...new Set(turns.map(({ event }) => event.task))])
  const changes: Change[] = []
  for (const { event, stranded } of turns) {
    const before = tasks.get(event.task) ?? null
    const isLegal = legal(before?.state ?? null, event.state)
    changes.push({ event, from: before?.state ?? null, legal: isLegal, remark: stranded ? STRANDED : null })
    tasks.set(event.task, applied(before, event, isLegal && !stranded))
  }
  await saveTasks(client, gateway, [...tasks.values()])
  await log(client, gateway, changes)
  return turns.length
}

/** `sound`: nothing about the change is to be looked at by a person. */
function applied(before: Task | null, event: MaintenanceEvent, sound: boolean): Task {
  return {
    task: event.task,
    title: event.title ?? before?.title ?? null,
    equipment: event.equipment ?? before?.equipment ?? null,
    sensor: event.sensor ?? before?.sensor ?? null,
    state: event.state,
    flagged: (before?.flagged ?? false) || !sound,
    openedUs: before?.openedUs ?? event.timestampUs,
    updatedUs: event.timestampUs,
    closedUs: isFinal(event.state) ? event.timestampUs : null
  }
}

type TaskRow = {
  task: string
  title: string | null
  equipment_id: string | null
  sensor_id: string | null
  state: string
  flagged: boolean
  opened_us: number
  updated_us: number
  closed_us: number | null
}

async function findTasks(client: Client, gateway: string, names: readonly string[]): Promise<Map<string, Task>> {
  const { rows } = await client.query<TaskRow>({
    name: 'find_tasks',
    text: `
      SELECT
        task,
        title,
        equipment_id,
        sensor_id,
        state,
        flagged,
        (extract(epoch FROM opened_at) * 1000000)::bigint AS opened_us,
        (extract(epoch FROM updated_at) * 1000000)::bigint AS updated_us,
        (extract(epoch FROM closed_at) * 1000000)::bigint AS closed_us
      FROM maintenance_tasks
      WHERE gateway_id = $1 AND task = ANY($2::text[])
      ORDER BY task
      FOR UPDATE`,
    values: [gateway, names]
  })
  return new Map(
    rows.map((row) => [
      row.task,
      {
        task: row.task,
        title: row.title,
        equipment: row.equipment_id,
        sensor: row.sensor_id,
        state: TASK_STATES.find((state) => state === row.state) ?? 'pending',
        flagged: row.flagged,
        openedUs: row.opened_us,
        updatedUs: row.updated_us,
        closedUs: row.closed_us
      }
    ])
  )
}

async function saveTasks(client: Client, gateway: string, tasks: readonly Task[]): Promise<void> {
  await client.query({
    name: 'save_tasks',
    text: `
      INSERT INTO maintenance_tasks (
        gateway_id, task, title, equipment_id, sensor_id, state, flagged, opened_at, updated_at, closed_at
      )
      SELECT $1, new.*
      FROM unnest(
        $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::timestamptz[], $9::timestamptz[],
        $10::timestamptz[]
      ) AS new
      ON CONFLICT (gateway_id, task) DO UPDATE SET
        title = excluded.title,
        equipment_id = excluded.equipment_id,
        sensor_id = excluded.sensor_id,
        state = excluded.state,
        flagged = excluded.flagged,
        updated_at = excluded.updated_at,
        closed_at = excluded.closed_at`,
    values: [
      gateway,
      tasks.map((task) => task.task),
      tasks.map((task) => task.title),
      tasks.map((task) => task.equipment),
      tasks.map((task) => task.sensor),
      tasks.map((task) => task.state),
      tasks.map((task) => task.flagged),
      tasks.map((task) => instantText(task.openedUs)),
      tasks.map((task) => instantText(task.updatedUs)),
      tasks.map((task) => (task.closedUs === null ? null : instantText(task.closedUs)))
    ]
  })
}

async function log(client: Client, gateway: string, changes: readonly Change[]): Promise<void> {
  await client.query({
    name: 'log_changes',
    text: `
      INSERT INTO maintenance_logs (
        task_id, gateway_id, event_id, from_state, to_state, legal, done_by, note, happened_at, received_at,
        digest, remark
      )
      SELECT
        tasks.id, $1, change.event_id, change.from_state, change.to_state, change.legal, change.done_by, change.note,
        change.happened_at, change.received_at, change.digest, change.remark
      FROM unnest(
        $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::text[], $9::timestamptz[],
        $10::timestamptz[], $11::bytea[], $12::text[]
      ) WITH ORDINALITY AS change (
        task, event_id, from_state, to_state, legal, done_by, note, happened_at, received_at, digest, remark, place
      )
      JOIN maintenance_tasks AS tasks ON tasks.gateway_id = $1 AND tasks.task = change.task
      ORDER BY change.place`,
    values: [
      gateway,
      changes.map(({ event }) => event.task),
      changes.map(({ event }) => event.id),
      changes.map(({ from }) => from),
      changes.map(({ event }) => event.state),
      changes.map((change) => change.legal),
      changes.map(({ event }) => event.by),
      changes.map(({ event }) => event.note),
      changes.map(({ event }) => instantText(event.timestampUs)),
      changes.map(({ event }) => instantText(event.receivedUs)),
      changes.map(({ event }) => digestOf(event)),
      changes.map(({ remark }) => remark)
    ]
  })
}
