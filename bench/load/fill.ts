// Load: a backlog as fast as it is taken: 200 sensors at 1 Hz, a second of all of them in one message, times ending now.
import { z } from 'zod'
import { createSignals, topicOf } from './messages.ts'
import { openRawClient } from './raw-client.ts'
import { readTask, tell } from './task.ts'

const task = readTask(z.object({ port: z.int(), readings: z.int(), seed: z.int() }))

const SENSORS = 200
const IN_FLIGHT = 24

const messages = Math.ceil(task.readings / SENSORS)
const next = createSignals(SENSORS, task.seed)
const ids = Array.from({ length: SENSORS }, (_, sensor) => topicOf(sensor, 0))
const endMs = Math.floor(Date.now() / 1_000) * 1_000
let sent = 0
let acknowledged = 0
let send: (count: number) => void = () => undefined

function message(index: number): string {
  const timestampMs = endMs - (messages - index) * 1_000
  const parts = ids.map((id, sensor) => `{"sensor_id":"${id}","value":${next(sensor)},"timestamp":${timestampMs}}`)
  return `[${parts.join(',')}]`
}

const startMs = performance.now()
await new Promise<void>((resolve, reject) => {
  openRawClient({
    port: task.port,
    clientId: `fill-${process.pid}`,
    clockMs: () => 0,
    onAck() {
      acknowledged += 1
      if (acknowledged === messages) resolve()
      else send(1)
    },
    onLost: reject
  }).then((client) => {
    send = (count) => {
      for (let index = 0; index < count && sent < messages; index++) {
        client.publish('plant/fill', message(sent))
        sent += 1
      }
      client.flush()
    }
    send(IN_FLIGHT)
  }, reject)
})
tell({ messages, readings: messages * SENSORS, seconds: (performance.now() - startMs) / 1_000 })
process.exit(0)
