// Tasks as people look at them.
import type { TaskState } from '../../shared/event.ts'
import { TASK_STATES } from '../../shared/event.ts'
import type { SqlClient } from '../database.ts'

export type Task = {
  gateway: string
  task: string
  title: string | null
  equipment: string | null
  sensor: string | null
  state: TaskState
  /** The plant reported a change that the states don't allow. */
  flagged: boolean
  openedAt: Date
  updatedAt: Date
  closedAt: Date | null
  /** Rows of its log. */
  changes: number
}

type TaskRow = {
  gateway_id: string
  task: string
  title: string | null
  equipment_id: string | null
  sensor_id: string | null
  state: string
  flagged: boolean
  opened_at: Date
  updated_at: Date
  closed_at: Date | null
  changes: number
}

/** The tasks changed last come first. */
export async function listTasks(client: SqlClient, options: { state?: TaskState; limit: number }): Promise<Task[]> {
  const { rows } = await client.query<TaskRow>(
    `
      SELECT
        gateway_id,
        task,
        title,
        equipment_id,
        sensor_id,
        state,
        flagged,
        opened_at,
        updated_at,
        closed_at,
        (SELECT count(*)::integer FROM maintenance_logs WHERE task_id = tasks.id) AS changes
      FROM maintenance_tasks AS tasks
      WHERE $1::text IS NULL OR state = $1
      ORDER BY updated_at DESC, id DESC
      LIMIT $2`,
    [options.state ?? null, options.limit]
  )
  return rows.map((row) => ({
    gateway: row.gateway_id,
    task: row.task,
    title: row.title,
    equipment: row.equipment_id,
    sensor: row.sensor_id,
    state: TASK_STATES.find((state) => state === row.state) ?? 'pending',
    flagged: row.flagged,
    openedAt: row.opened_at,
    updatedAt: row.updated_at,
    closedAt: row.closed_at,
    changes: row.changes
  }))
}
