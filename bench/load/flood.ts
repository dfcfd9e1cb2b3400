// Load: a number of single readings of QoS 1 into a broker, as fast as it takes them.
import { z } from 'zod'
import { createFeed } from './messages.ts'
import { openRawClient } from './raw-client.ts'
import { readTask, tell } from './task.ts'

const task = readTask(z.object({ port: z.int(), messages: z.int(), seed: z.int() }))

const CLIENTS = 4
/** Below Mosquitto's limit of what a client may have under way. */
const IN_FLIGHT = 500

const startMs = performance.now()
const shares = Array.from({ length: CLIENTS }, (_, number) =>
  Math.floor((task.messages + CLIENTS - 1 - number) / CLIENTS)
)
await Promise.all(shares.map((share, number) => flood(number, share)))
tell({ messages: task.messages, readings: task.messages, seconds: (performance.now() - startMs) / 1_000 })
process.exit(0)

async function flood(number: number, share: number): Promise<void> {
  const next = createFeed(number, task.seed)
  let acknowledged = 0
  let sent = 0
  let due = 0
  let finish: () => void = () => undefined
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const client = await openRawClient({
    port: task.port,
    clientId: `flood-${process.pid}-${number}`,
    clockMs: () => 0,
    onAck() {
      acknowledged += 1
      due += 1
      if (acknowledged === share) finish()
      else if (due === 1) setImmediate(refill)
    },
    onLost(error) {
      throw error
    }
  })
  function send(count: number): void {
    for (let index = 0; index < count && sent < share; index++) {
      const { topic, payload } = next()
      client.publish(topic, payload)
      sent += 1
    }
    client.flush()
  }
  function refill(): void {
    const count = due
    due = 0
    send(count)
  }
  send(IN_FLIGHT)
  await finished
  client.close()
}
