// What the oracle publishes: seeded, every reading with a time of its own, so that each has an identity that is never used
// for another value, but for conflicts, which follow what was accepted.
import { TASK_STATES } from '../../shared/event.ts'
import type { TaskState } from '../../shared/event.ts'
import { codeOfValue } from './journal.ts'
import type { Content } from './journal.ts'
import { poison, randomValue, timestampText, valueText } from './payload.ts'
import type { Value } from './payload.ts'
import type { Random } from './random.ts'

export type Draft = { topic: string; payload: Buffer; content: Content }

export type Traffic = {
  next(): Draft
  /** What it may repeat or contradict from now on. */
  onAccepted(draft: Draft): void
}

const SENSORS = 12
const HOUR_US = 3_600_000_000
const REMEMBERED = 200
const OPEN_TASKS = 4
/** In the bridge's future, beyond what it takes. */
const FAR_US = Date.UTC(2150, 0, 1) * 1_000

/** `name`: of the client; its sensors and events bear it. `startUs`: about now. */
export function createReadings(random: Random, name: string, startUs: number): Traffic {
  const lastUs = new Map<string, number>()
  const accepted: Draft[] = []
  let count = 0

  function nextUs(sensor: string): number {
    // One sensor was cut off for weeks: its readings lie in other partitions.
    const isLate = sensor.endsWith('/s0')
    const before = lastUs.get(sensor) ?? (isLate ? startUs - 60 * 24 * HOUR_US : startUs - HOUR_US)
    const timestampUs = before + random.between(1, isLate ? 60_000_000 : 2_000)
    lastUs.set(sensor, timestampUs)
    return timestampUs
  }

  function reading(topic: string): { text: string; value: Value; timestampUs: number } {
    const timestampUs = nextUs(topic)
    const value = randomValue(random)
    const unit = random.chance(0.2) ? ', "unit": "°C"' : ''
    const text = `{"value": ${valueText(value)}, "timestamp": ${timestampText(random, timestampUs)}${unit}}`
    return { text, value, timestampUs }
  }

  function coded(sensor: string, timestampUs: number, value: Value) {
    return { sensor, timestampUs, value: codeOfValue(typeof value === 'boolean' ? Number(value) : value) }
  }

  function several(topic: string): Draft {
    const items = Array.from({ length: random.between(2, 6) }, () => reading(topic))
    return {
      topic,
      payload: Buffer.from(`[${items.map(({ text }) => text).join(', ')}]`),
      content: {
        kind: 'readings',
        readings: items.map(({ value, timestampUs }) => coded(topic, timestampUs, value))
      }
    }
  }

  function named(): Draft {
    const topic = `plant/${name}/station`
    const timestampUs = nextUs(topic)
    const values = ['temperature', 'rpm', 'druck/öl'].map((of) => ({ of, value: randomValue(random) }))
    const members = values.map(({ of, value }) => `${JSON.stringify(of)}: ${valueText(value)}`).join(', ')
    return {
      topic,
      payload: Buffer.from(`{"timestamp": ${timestampText(random, timestampUs)}, "values": {${members}}}`),
      content: {
        kind: 'readings',
        readings: values.map(({ of, value }) => coded(`${topic}/${of}`, timestampUs, value))
      }
    }
  }

  function conflicting({ topic, content }: Draft): Draft | null {
    const first = content.kind === 'readings' ? content.readings[0] : undefined
    if (first === undefined) return null
    const value = 1_000_000 + count
    const payload = `{"sensor_id": ${JSON.stringify(first.sensor)}, "value": ${value}, "timestamp": ${first.timestampUs}}`
    const { sensor, timestampUs } = first
    return { topic, payload: Buffer.from(payload), content: { kind: 'conflict', sensor, timestampUs, value } }
  }

  function refused(topic: string): Draft {
    const isEarly = random.chance(0.5)
    const timestampUs = isEarly ? FAR_US + nextUs(topic) : nextUs(topic)
    const value = isEarly ? '1' : '"nul \\u0000 in it"'
    const payload = Buffer.from(`{"value": ${value}, "timestamp": ${timestampUs}}`)
    return { topic, payload, content: { kind: 'refused', sensor: topic, timestampUs } }
  }

  function fromAccepted(): Draft | null {
    const draft = accepted[random.between(0, accepted.length - 1)]
    if (draft === undefined) return null
    return random.chance(0.3) ? conflicting(draft) : draft
  }

  return {
    next() {
      count += 1
      const topic = `plant/${name}/s${random.between(0, SENSORS - 1)}`
      const die = random.between(0, 999)
      if (die < 12) {
        const draft = fromAccepted()
        if (draft !== null) return draft
      }
      if (die < 16) {
        const marker = `poison-${name}-${count}.`
        return { ...poison(random, marker), content: { kind: 'poison', marker } }
      }
      if (die < 18) return refused(topic)
      if (die < 118) return several(topic)
      if (die < 218) return named()
      const { text, value, timestampUs } = reading(topic)
      return {
        topic,
        payload: Buffer.from(text),
        content: { kind: 'readings', readings: [coded(topic, timestampUs, value)] }
      }
    },
    onAccepted(draft) {
      if (draft.content.kind !== 'readings') return
      accepted.push(draft)
      if (accepted.length > REMEMBERED) accepted.shift()
    }
  }
}

/** Tasks that go through their states, several at a time; one in ten then does what a finished task can't. */
export function createEvents(random: Random, name: string, startUs: number): Traffic {
  const open: { task: string; steps: { state: TaskState; legal: boolean }[] }[] = []
  let tasks = 0
  let events = 0

  function openTask(): void {
    tasks += 1
    const end = random.pick(['completed', 'partially_completed', 'failed', 'cancelled'] satisfies [
      TaskState,
      ...TaskState[]
    ])
    const steps = [
      { state: TASK_STATES[0], legal: true },
      { state: TASK_STATES[1], legal: true },
      { state: end, legal: true }
    ]
    if (random.chance(0.1)) steps.push({ state: TASK_STATES[1], legal: false })
    open.push({ task: `${name}-task-${tasks}`, steps })
  }

  return {
    next() {
      while (open.length < OPEN_TASKS) openTask()
      const place = random.between(0, open.length - 1)
      const found = open[place]
      const step = found?.steps.shift()
      if (found === undefined || step === undefined) throw new Error('a task without steps was left open')
      if (found.steps.length === 0) open.splice(place, 1)
      events += 1
      const event = `${name}-event-${events}`
      const { task } = found
      const payload = {
        event_id: event,
        task,
        state: step.state,
        by: 'M. Jansen',
        note: `Prüfung ${events}`,
        timestamp: startUs + events
      }
      return {
        topic: `plant/${name}/maintenance`,
        payload: Buffer.from(JSON.stringify(payload)),
        content: { kind: 'event', event, task, ...step }
      }
    },
    onAccepted() {}
  }
}
