// Work orders of the simulated plant, one at a time: pending → in_progress → an end. Machines stand while one is worked on.
import type { TaskState } from '../../shared/event.ts'
import type { Random } from '../signals.ts'

export type PlantEvent = {
  topic: string
  eventId: string
  task: string
  state: TaskState
  title: string
  equipment: string
  by: string
  note: string | null
  timestampMs: number
}

export type Maintenance = {
  /** What happened until `atMs`, in order. */
  step(atMs: number): PlantEvent[]
  /** The machine that is being worked on, null when none is. */
  stopped(): string | null
  /** The end of the shift: what is open is called off or broken off. */
  finish(atMs: number): PlantEvent[]
}

const JOBS = [
  'Replace the main bearing',
  'Change the hydraulic oil and its filter',
  'Check and tighten the foundation bolts',
  'Calibrate the pressure sensor',
  'Renew the seals',
  'Clean the cooler'
]
const PEOPLE = ['a.novak', 'm.keller', 's.okafor', 't.lind']

/** The first order comes soon, so that there is something to see; the others by chance. s. */
const FIRST_AFTER_S = 5
const MEAN_GAP_S = 150
const PENDING_S: [number, number] = [8, 20]
const WORK_S: [number, number] = [30, 90]

const ENDS: { state: TaskState; below: number; note: string | null }[] = [
  { state: 'completed', below: 0.8, note: null },
  { state: 'partially_completed', below: 0.92, note: 'a spare part is missing, to be continued' },
  { state: 'failed', below: 1, note: 'the fault is still there' }
]

type Order = {
  machine: Machine
  task: string
  title: string
  by: string
  events: number
  state: TaskState
  nextMs: number
}
type Machine = { name: string; topic: string }

export function createMaintenance(options: { random: Random; machines: readonly Machine[] }): Maintenance {
  const { random, machines } = options
  let order: Order | null = null
  let nextOrderMs: number | null = null

  function report(open: Order, state: TaskState, atMs: number, note: string | null): PlantEvent {
    open.events += 1
    open.state = state
    return {
      topic: open.machine.topic,
      eventId: `${open.task}-${open.events}`,
      task: open.task,
      state,
      title: open.title,
      equipment: open.machine.name,
      by: open.by,
      note,
      timestampMs: atMs
    }
  }

  function close(open: Order, state: TaskState, atMs: number, note: string | null): PlantEvent {
    const event = report(open, state, atMs, note)
    order = null
    nextOrderMs = atMs + random.waitS(MEAN_GAP_S) * 1_000
    return event
  }

  function open(atMs: number): PlantEvent[] {
    const machine = pick(machines, random)
    const title = pick(JOBS, random)
    const by = pick(PEOPLE, random)
    if (machine === undefined || title === undefined || by === undefined) return []
    const task = `WO-${Math.floor(atMs / 1_000)
      .toString(36)
      .toUpperCase()}`
    order = {
      machine,
      task,
      title,
      by,
      events: 0,
      state: 'pending',
      nextMs: atMs + random.between(...PENDING_S) * 1_000
    }
    return [report(order, 'pending', atMs, null)]
  }

  return {
    step(atMs) {
      nextOrderMs ??= atMs + FIRST_AFTER_S * 1_000
      if (order === null) return atMs < nextOrderMs ? [] : open(atMs)
      if (atMs < order.nextMs) return []
      if (order.state === 'pending') {
        order.nextMs = atMs + random.between(...WORK_S) * 1_000
        return [report(order, 'in_progress', atMs, null)]
      }
      const chance = random.uniform()
      const end = ENDS.find(({ below }) => chance < below)
      return end === undefined ? [] : [close(order, end.state, atMs, end.note)]
    },
    stopped() {
      return order?.state === 'in_progress' ? order.machine.name : null
    },
    finish(atMs) {
      if (order === null) return []
      return order.state === 'pending'
        ? [close(order, 'cancelled', atMs, 'the plant was shut down')]
        : [close(order, 'partially_completed', atMs, 'the plant was shut down')]
    }
  }
}

function pick<T>(list: readonly T[], random: Random): T | undefined {
  return list[Math.floor(random.uniform() * list.length)]
}
