// The oracle: a process apart from the system that publishes, and knows what was accepted.
//
// `node bench/oracle/publisher.ts '<options as JSON>'`. It says on standard output, one JSON object a line: `first` (the first
// acceptance on a connection), `progress`, and `done`. A line `finish` on standard input: nothing new any more; it ends when
// all is accepted. It ends at once when standard input closes.
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { openJournal } from './journal.ts'
import { createRandom, seedOf } from './random.ts'
import { openSession } from './session.ts'
import type { Publish, Session } from './session.ts'
import { createEvents, createReadings } from './traffic.ts'
import type { Draft, Traffic } from './traffic.ts'

const oracleOptions = z.object({
  host: z.string(),
  port: z.int(),
  seed: z.int(),
  /** Before the names of its clients and sensors. */
  name: z.string(),
  journal: z.string(),
  /** How many clients of each kind. */
  clients: z.object({ qos1: z.int(), qos2: z.int(), events1: z.int(), events2: z.int() }),
  /** Messages a second of a client for readings, and of one for events. */
  ratePerS: z.number(),
  eventsPerS: z.number(),
  maxInFlight: z.int()
})
export type OracleOptions = z.infer<typeof oracleOptions>

const TICK_MS = 5
const PROGRESS_EVERY_MS = 50

type Client = {
  session: Session
  traffic: Traffic
  drafts: Map<string, Draft>
  qos: 1 | 2
  ratePerS: number
  credit: number
}

const options = oracleOptions.parse(JSON.parse(process.argv[2] ?? '{}'))
const journal = openJournal(options.journal)
const startUs = Date.now() * 1_000
const clients: Client[] = []
let sent = 0
let accepted = 0
let finishing = false
let ids = 0

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

function open(kind: keyof OracleOptions['clients'], index: number): Client {
  const name = `${options.name}-${kind}-${index}`
  const random = createRandom(seedOf(options.seed, name))
  const isEvents = kind.startsWith('events')
  const traffic = (isEvents ? createEvents : createReadings)(random, name, startUs)
  const drafts = new Map<string, Draft>()
  const qos = kind.endsWith('1') ? 1 : 2
  const session = openSession({
    host: options.host,
    port: options.port,
    clientId: name,
    maxInFlight: options.maxInFlight,
    onSent({ id }, again) {
      const draft = drafts.get(id)
      if (draft === undefined) return
      journal.add(again ? ['again', id] : ['sent', id, qos, draft.content])
      // Before its bytes can have left.
      journal.flush()
    },
    onAccepted({ id }, fresh) {
      const atMs = Date.now()
      journal.add(['accepted', id, atMs])
      accepted += 1
      const draft = drafts.get(id)
      drafts.delete(id)
      if (draft !== undefined) traffic.onAccepted(draft)
      if (fresh) say({ event: 'first', client: name, atMs })
    }
  })
  return { session, traffic, drafts, qos, ratePerS: isEvents ? options.eventsPerS : options.ratePerS, credit: 0 }
}

function publish({ session, traffic, drafts, qos }: Client): void {
  ids += 1
  const id = ids.toString(36)
  const draft = traffic.next()
  drafts.set(id, draft)
  const message: Publish = { id, topic: draft.topic, payload: draft.payload, qos }
  sent += 1
  session.publish(message)
}

for (const kind of ['qos1', 'qos2', 'events1', 'events2'] as const) {
  for (let index = 1; index <= options.clients[kind]; index++) clients.push(open(kind, index))
}

let lastMs = performance.now()
let saidMs = lastMs
let saidAccepted = 0

function tick(): void {
  const nowMs = performance.now()
  for (const client of clients) {
    client.credit = Math.min(client.ratePerS / 5, client.credit + (client.ratePerS * (nowMs - lastMs)) / 1_000)
    while (!finishing && client.credit >= 1 && client.session.room() > 0) {
      client.credit -= 1
      publish(client)
    }
  }
  lastMs = nowMs
  journal.flush()
  if (saidAccepted !== accepted && nowMs - saidMs >= PROGRESS_EVERY_MS) {
    say({ event: 'progress', sent, accepted })
    saidAccepted = accepted
    saidMs = nowMs
  }
  if (finishing && clients.every(({ session }) => session.inFlight() === 0)) {
    journal.close()
    say({ event: 'done', sent, accepted })
    process.exit(0)
  }
}

setInterval(tick, TICK_MS)
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'finish') finishing = true
  })
  .on('close', () => {
    if (!finishing) process.exit(1)
  })
