// Load: clients as a plant has them, of the library mqtt.js, each with `inFlight` messages of QoS 1 under way; for each
// acknowledgement the next is sent. At the end all that was sent is waited for.
import mqtt from 'mqtt'
import { pause } from '../../shared/retry.ts'
import { closedLoopTask } from './findings.ts'
import { createFeed } from './messages.ts'
import { createLatencies, readTask, tell } from './task.ts'

const task = readTask(closedLoopTask)
const latencies = createLatencies()
const clockMs = () => performance.now()
let sent = 0
let acknowledged = 0
let measured = 0
let measuring = false
let ending = false

const clients = await Promise.all(
  Array.from({ length: task.clients }, (_, number) =>
    mqtt.connectAsync(`mqtt://127.0.0.1:${task.port}`, {
      clientId: `load-${process.pid}-${number}`,
      protocolVersion: 4,
      reconnectPeriod: 0
    })
  )
)
for (const [number, client] of clients.entries()) {
  const next = createFeed(number, task.seed)
  client.on('error', (error) => {
    throw error
  })
  function send(): void {
    const { topic, payload } = next()
    const sentMs = clockMs()
    sent += 1
    client.publish(topic, payload, { qos: 1 }, (error) => {
      if (error !== undefined && error !== null) throw error
      acknowledged += 1
      if (measuring) {
        measured += 1
        latencies.note(clockMs() - sentMs)
      }
      if (!ending) send()
    })
  }
  for (let index = 0; index < task.inFlight; index++) send()
}

await pause(task.warmUpMs)
measuring = true
const startMs = clockMs()
await pause(task.measureMs)
measuring = false
const seconds = (clockMs() - startMs) / 1_000
ending = true
while (acknowledged < sent) await pause(5)
for (const client of clients) client.end(true)
tell({ sent, acknowledged, perSecond: measured / seconds, latency: latencies.summary() })
process.exit(0)
