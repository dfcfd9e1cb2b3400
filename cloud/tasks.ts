// `npm run tasks`: the maintenance tasks, changed last first.
import { parseArgs } from 'node:util'
import { AppError } from '../shared/errors.ts'
import { TASK_STATES } from '../shared/event.ts'
import type { TaskState } from '../shared/event.ts'
import { readQuerySource } from './config.ts'
import { listTasks } from './maintenance/tasks.ts'
import type { Task } from './maintenance/tasks.ts'
import { limitOf, look, runCommand } from './query.ts'
import { formatTable } from './table.ts'
import type { Column } from './table.ts'

const USAGE = 'usage: npm run tasks -- [--state in_progress] [--limit 20] [--json]'

const COLUMNS: Column<Task>[] = [
  { title: 'task', of: ({ task }) => task },
  { title: 'gateway', of: ({ gateway }) => gateway },
  { title: 'state', of: ({ state, flagged }) => (flagged ? `${state} (flagged)` : state) },
  { title: 'equipment', of: ({ equipment }) => equipment ?? '' },
  { title: 'title', of: ({ title }) => title ?? '' },
  { title: 'opened (UTC)', of: ({ openedAt }) => openedAt.toISOString() },
  { title: 'updated (UTC)', of: ({ updatedAt }) => updatedAt.toISOString() },
  { title: 'changes', of: ({ changes }) => String(changes), right: true }
]

/** @throws AppError `config_invalid` */
function stateOf(text: string | undefined): TaskState | undefined {
  if (text === undefined) return undefined
  const state = TASK_STATES.find((known) => known === text)
  if (state !== undefined) return state
  throw new AppError('config_invalid', `--state is ${JSON.stringify(text)}, must be one of ${TASK_STATES.join(', ')}`)
}

await runCommand('tasks', USAGE, async () => {
  const { values } = parseArgs({
    options: {
      state: { type: 'string' },
      limit: { type: 'string', default: '20' },
      json: { type: 'boolean', default: false }
    }
  })
  const limit = limitOf(values.limit)
  const state = stateOf(values.state)
  const tasks = await look(readQuerySource(process.env), (client) =>
    listTasks(client, state === undefined ? { limit } : { state, limit })
  )
  if (values.json) return `${JSON.stringify(tasks, null, 2)}\n`
  return tasks.length === 0 ? 'no tasks\n' : formatTable(COLUMNS, tasks)
})
