// Load: as clients.ts, on raw sockets.
import { pause } from '../../shared/retry.ts'
import { closedLoopTask } from './findings.ts'
import { createFeed } from './messages.ts'
import { openRawClient } from './raw-client.ts'
import type { RawClient } from './raw-client.ts'
import { createLatencies, readTask, tell } from './task.ts'

const task = readTask(closedLoopTask)
const latencies = createLatencies()
const clockMs = () => performance.now()
let sent = 0
let acknowledged = 0
let measured = 0
let measuring = false
let ending = false

const clients: RawClient[] = []
for (let number = 0; number < task.clients; number++) {
  const next = createFeed(number, task.seed)
  let due = 0
  const client = await openRawClient({
    port: task.port,
    clientId: `load-${process.pid}-${number}`,
    clockMs,
    onAck(sentMs) {
      acknowledged += 1
      if (measuring) {
        measured += 1
        latencies.note(clockMs() - sentMs)
      }
      if (ending) return
      due += 1
      if (due === 1) setImmediate(refill)
    },
    onLost(error) {
      throw error
    }
  })
  function send(count: number): void {
    for (let index = 0; index < count; index++) {
      const { topic, payload } = next()
      client.publish(topic, payload)
    }
    sent += count
    client.flush()
  }
  function refill(): void {
    const count = due
    due = 0
    if (!ending) send(count)
  }
  clients.push(client)
  send(task.inFlight)
}

await pause(task.warmUpMs)
measuring = true
const startMs = clockMs()
await pause(task.measureMs)
measuring = false
const seconds = (clockMs() - startMs) / 1_000
ending = true
while (clients.some((client) => client.inFlight() > 0)) await pause(5)
for (const client of clients) client.close()
tell({ sent, acknowledged, perSecond: measured / seconds, latency: latencies.summary() })
process.exit(0)
