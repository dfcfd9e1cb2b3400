// What the oracle knows: one line for each message sent, sent again and accepted, in the order in which it happened.
//
// A message is journaled before its first byte leaves, and as accepted when its PUBACK or PUBREC is here; so the file never
// claims less than was sent, nor more than was accepted. It is only added to.
import { createReadStream, openSync, closeSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { TASK_STATES } from '../../shared/event.ts'

/** `n:` and the sixteen hex digits of a double, `t:` and a text, or null. */
const valueCode = z.string().nullable()
export type ValueCode = z.infer<typeof valueCode>

const key = { sensor: z.string(), timestampUs: z.int() }

/** What a message must become. */
const content = z.discriminatedUnion('kind', [
  /** Rows. */
  z.object({ kind: z.literal('readings'), readings: z.array(z.object({ ...key, value: valueCode })) }),
  /** A dead letter: another value for a reading that was accepted before. */
  z.object({ kind: z.literal('conflict'), ...key, value: z.number() }),
  /** A dead letter: the database can't take this reading. */
  z.object({ kind: z.literal('refused'), ...key }),
  /** A dead letter: the edge can't read it; its bytes hold the marker. */
  z.object({ kind: z.literal('poison'), marker: z.string() }),
  /** A row of maintenance_logs. `legal`: what the states of a task say. */
  z.object({
    kind: z.literal('event'),
    event: z.string(),
    task: z.string(),
    state: z.enum(TASK_STATES),
    legal: z.boolean()
  })
])
export type Content = z.infer<typeof content>

const line = z.union([
  z.tuple([z.literal('sent'), z.string(), z.union([z.literal(1), z.literal(2)]), content]),
  z.tuple([z.literal('again'), z.string()]),
  z.tuple([z.literal('accepted'), z.string(), z.number()])
])
export type Line = z.infer<typeof line>

export type Journal = {
  add(entry: Line): void
  /** Writes what was added. */
  flush(): void
  close(): void
}

export function openJournal(path: string): Journal {
  const file = openSync(path, 'a')
  let lines = ''
  function flush(): void {
    if (lines !== '') writeSync(file, lines)
    lines = ''
  }
  return {
    add(entry) {
      lines += `${JSON.stringify(entry)}\n`
    },
    flush,
    close() {
      flush()
      closeSync(file)
    }
  }
}

export type Message = {
  qos: 1 | 2
  content: Content
  /** How often its bytes were sent. */
  sendings: number
  accepted: boolean
}

/** By the message's id. */
export async function readJournal(path: string): Promise<Map<string, Message>> {
  const messages = new Map<string, Message>()
  for await (const text of createInterface({ input: createReadStream(path) })) {
    const entry = line.parse(JSON.parse(text))
    if (entry[0] === 'sent') {
      messages.set(entry[1], { qos: entry[2], content: entry[3], sendings: 1, accepted: false })
      continue
    }
    const message = messages.get(entry[1])
    if (message === undefined) throw new Error(`the journal ${path} tells of ${entry[1]} before it was sent`)
    if (entry[0] === 'again') message.sendings += 1
    else message.accepted = true
  }
  return messages
}

/** Tells -0 from 0 and keeps every bit. */
export function codeOfValue(value: number | string | null): ValueCode {
  if (value === null) return null
  if (typeof value === 'string') return `t:${value}`
  const bits = Buffer.alloc(8)
  bits.writeDoubleBE(value)
  return `n:${bits.toString('hex')}`
}
