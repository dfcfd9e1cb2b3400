// Maintenance events: JSON objects on a topic whose last level is `maintenance`.
//
// An event without a name of its task belongs to the task that is named after its equipment, or else after the topic's
// levels before `maintenance`: who publishes only "press 7 is being serviced" means the one job there.
import { createHash } from 'node:crypto'
import { TASK_STATES, maintenanceEvent } from '../../shared/event.ts'
import type { MaintenanceEvent, TaskState } from '../../shared/event.ts'
import type { JsonObject } from './json.ts'
import { describe, isFault } from './reject.ts'
import type { Fault, RejectSource } from './reject.ts'
import { readTimestamp } from './timestamp.ts'

const LAST_LEVEL = /(?:^|\/)maintenance$/

export function isMaintenanceTopic(topic: string): boolean {
  return topic.endsWith('maintenance') && LAST_LEVEL.test(topic)
}

/**
 * Field names, the first that is given counting: task, task_id · state, status · event_id · equipment, equipment_id ·
 * sensor, sensor_id · title · by, user · note, comment · timestamp, ts. Only the state is required.
 */
export function readEvent(object: JsonObject, source: RejectSource, prefix: string): MaintenanceEvent | Fault {
  const state = readState(object)
  if (typeof state === 'object') return state
  const timestampUs = readTimestamp(object.timestamp ?? object.ts)
  if (isFault(timestampUs)) return timestampUs

  const equipment = readField(object, 'equipment', 'equipment_id')
  if (isFault(equipment)) return equipment
  const givenTask = readField(object, 'task', 'task_id')
  if (isFault(givenTask)) return givenTask
  const task = givenTask ?? equipment ?? source.topic.replace(LAST_LEVEL, '')
  if (task === '') return unreadable('task is missing, and neither equipment nor the topic names it')

  const givenId = readField(object, 'event_id')
  if (isFault(givenId)) return givenId
  const sensor = readField(object, 'sensor', 'sensor_id')
  if (isFault(sensor)) return sensor
  const title = readField(object, 'title')
  if (isFault(title)) return title
  const by = readField(object, 'by', 'user')
  if (isFault(by)) return by
  const note = readField(object, 'note', 'comment')
  if (isFault(note)) return note

  const event = maintenanceEvent.safeParse({
    id: givenId ?? (timestampUs === null ? source.newId() : derivedId(source.topic, task, state, timestampUs)),
    task,
    state,
    equipment,
    sensor: sensor === null ? null : prefix + sensor,
    title,
    by,
    note,
    timestampUs: timestampUs ?? source.receivedUs,
    receivedUs: source.receivedUs,
    topic: source.topic
  })
  if (event.success) return event.data
  const [issue] = event.error.issues
  return unreadable(`${String(issue?.path[0] ?? 'the event')} can't be taken: ${issue?.message ?? 'not allowed'}`)
}

/** The same event sent again gets the same id, and is told by it. */
function derivedId(topic: string, task: string, state: TaskState, timestampUs: number): string {
  return createHash('sha256')
    .update(JSON.stringify([topic, task, state, timestampUs]))
    .digest('hex')
    .slice(0, 32)
}

function readState(object: JsonObject): TaskState | Fault {
  const given = object.state ?? object.status
  const allowed = `allowed are ${TASK_STATES.join(', ')}`
  if (given === undefined || given === null) return unreadable(`state is missing; ${allowed}`)
  const word = String(typeof given === 'string' ? given : '')
    .trim()
    .toLowerCase()
    .replace(/[\s_-]+/g, '_')
  const state = TASK_STATES.find((candidate) => candidate === (word === 'canceled' ? 'cancelled' : word))
  return state ?? unreadable(`state is ${describe(given)}; ${allowed}`)
}

/** The text of the first of the names that is given and not blank, numbers as their digits; null when none is. */
function readField(object: JsonObject, ...names: string[]): string | null | Fault {
  for (const name of names) {
    const given = object[name]
    if (given === undefined || given === null) continue
    if (typeof given === 'object' || typeof given === 'boolean') {
      return unreadable(`${name} is ${describe(given)}; a text or a number is allowed`)
    }
    const text = String(given)
    if (!text.isWellFormed()) return unreadable(`${name} ${describe(text)} holds half of a surrogate pair`)
    if (text.trim() !== '') return text
  }
  return null
}

function unreadable(detail: string): Fault {
  return { reason: 'event_unreadable', detail }
}
