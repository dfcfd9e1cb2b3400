// What must be found after a run, from the oracle's journals.
import { readJournal } from '../oracle/journal.ts'
import type { Message, ValueCode } from '../oracle/journal.ts'
import type { TaskState } from '../../shared/event.ts'

/** A record that must exist once its message was accepted. `seen`: how often it was found. */
export type Expected = { accepted: boolean; seen: number; value: ValueCode }

/** A dead letter: one for each time that its bytes may have been taken in, at least one once it was accepted. */
export type ExpectedLetter = { accepted: boolean; seen: number; atMost: number; what: string }

export type ExpectedEvent = { accepted: boolean; seen: number; state: TaskState; legal: boolean }

export type Expectation = {
  /** Messages sent, and accepted. */
  sent: number
  accepted: number
  /** By `keyOf`. */
  readings: Map<string, Expected>
  conflicts: Map<string, ExpectedLetter>
  refused: Map<string, ExpectedLetter>
  /** By marker. */
  poison: Map<string, ExpectedLetter>
  /** Task → event → what it said, in the order of sending. */
  tasks: Map<string, Map<string, ExpectedEvent>>
}

export function keyOf(sensor: string, timestampUs: number | string): string {
  return `${timestampUs} ${sensor}`
}

export function conflictKey(sensor: string, timestampUs: number | string, value: unknown): string {
  return `${keyOf(sensor, timestampUs)} ${String(value)}`
}

export async function readExpectation(journals: readonly string[]): Promise<Expectation> {
  const expectation: Expectation = {
    sent: 0,
    accepted: 0,
    readings: new Map(),
    conflicts: new Map(),
    refused: new Map(),
    poison: new Map(),
    tasks: new Map()
  }
  for (const journal of journals) {
    for (const message of (await readJournal(journal)).values()) add(expectation, message)
  }
  return expectation
}

function add(expectation: Expectation, message: Message): void {
  const { accepted, content } = message
  expectation.sent += 1
  if (accepted) expectation.accepted += 1
  switch (content.kind) {
    case 'readings':
      for (const { sensor, timestampUs, value } of content.readings) {
        const key = keyOf(sensor, timestampUs)
        const known = expectation.readings.get(key)
        if (known === undefined) expectation.readings.set(key, { accepted, seen: 0, value })
        else known.accepted ||= accepted
      }
      return
    case 'conflict': {
      const key = conflictKey(content.sensor, content.timestampUs, content.value)
      expectation.conflicts.set(key, letterOf(message, `conflict ${key}`))
      return
    }
    case 'refused': {
      // Its key tells a second sending from the first: exactly one.
      const key = keyOf(content.sensor, content.timestampUs)
      expectation.refused.set(key, { ...letterOf(message, `refused ${key}`), atMost: 1 })
      return
    }
    case 'poison':
      expectation.poison.set(content.marker, letterOf(message, content.marker))
      return
    case 'event': {
      const events = expectation.tasks.get(content.task) ?? new Map<string, ExpectedEvent>()
      expectation.tasks.set(content.task, events)
      events.set(content.event, { accepted, seen: 0, state: content.state, legal: content.legal })
    }
  }
}

/** A QoS 1 message that is sent again can't be told from a new one when nothing in it can be read. */
function letterOf({ accepted, qos, sendings }: Message, what: string): ExpectedLetter {
  return { accepted, seen: 0, atMost: qos === 2 ? 1 : sendings, what }
}
