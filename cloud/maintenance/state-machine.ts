// The states of a maintenance task:
//
//   pending → in_progress → completed | partially_completed | failed | cancelled
//   pending → cancelled (called off before anyone began)
//
// The last four are final. People and the API may make legal changes only. An event from the plant is a fact: it is
// applied whatever it says, and an illegal change is marked. The first event of a task opens it in any state, since
// there is nothing that it could contradict.
import { AppError } from '../../shared/errors.ts'
import type { TaskState } from '../../shared/event.ts'

const TARGETS: Record<TaskState, readonly TaskState[]> = {
  pending: ['in_progress', 'cancelled'],
  in_progress: ['completed', 'partially_completed', 'failed', 'cancelled'],
  completed: [],
  partially_completed: [],
  failed: [],
  cancelled: []
}

/** The states that a task may take from `from`; none when it is final. */
export function legalTargets(from: TaskState): readonly TaskState[] {
  return TARGETS[from]
}

export function isFinal(state: TaskState): boolean {
  return TARGETS[state].length === 0
}

/** Whether the change is legal; `from` is null at a task's first event. */
export function legal(from: TaskState | null, to: TaskState): boolean {
  return from === null || TARGETS[from].includes(to)
}

/** @throws AppError `illegal_transition` that names the legal states */
export function demandLegal(from: TaskState, to: TaskState): void {
  if (legal(from, to)) return
  const targets = legalTargets(from)
  const way = targets.length === 0 ? `${from} is final` : `from ${from} it can become ${targets.join(', ')}`
  throw new AppError('illegal_transition', `a task that is ${from} can't become ${to}`, { hint: way })
}
