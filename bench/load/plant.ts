// Load: machines that publish all their quantities at a fixed rate, QoS 1, whatever the broker does (open loop). Machine m
// of n has its moment m/n into each period. A latency runs from the moment at which the message should have been sent.
// Ends after `forMs`, or when it is stopped; tells when it began, then its findings.
import { z } from 'zod'
import { pause } from '../../shared/retry.ts'
import { createSignals, payloadOf, topicOf } from './messages.ts'
import { openRawClient } from './raw-client.ts'
import type { RawClient } from './raw-client.ts'
import { createLatencies, readTask, stop, tell, wallMs } from './task.ts'

const task = readTask(
  z.object({
    port: z.int(),
    machines: z.int(),
    quantities: z.int(),
    hz: z.number(),
    /** Null: until stopped. */
    forMs: z.number().nullable(),
    /** Latencies count from here on. */
    warmUpMs: z.number(),
    seed: z.int()
  })
)

const { machines, quantities } = task
const periodMs = 1_000 / task.hz
const topics = Array.from({ length: machines * quantities }, (_, signal) =>
  topicOf(Math.floor(signal / quantities), signal % quantities)
)
const next = createSignals(machines * quantities, task.seed)
const latencies = createLatencies()
let sent = 0
let acknowledged = 0
let measured = 0

const clients: RawClient[] = []
for (let machine = 0; machine < machines; machine++) {
  const onLost = (error: Error) => {
    throw error
  }
  // The clock of a message is the moment it is due, set before it is published.
  const onAck = (dueMs: number) => {
    acknowledged += 1
    if (dueMs < startMs + task.warmUpMs) return
    measured += 1
    latencies.note(wallMs() - dueMs)
  }
  clients.push(
    await openRawClient({
      port: task.port,
      clientId: `plant-${process.pid}-${machine}`,
      clockMs: () => nowDueMs,
      onAck,
      onLost
    })
  )
}

let nowDueMs = 0
const startMs = Math.ceil(wallMs()) + 20
const endMs = task.forMs === null ? Number.POSITIVE_INFINITY : startMs + task.forMs
tell({ startMs })

/** The next burst, counted over all machines. */
let burst = 0
for (;;) {
  const nowMs = wallMs()
  for (;;) {
    const dueMs = startMs + (burst * periodMs) / machines
    if (dueMs > nowMs || dueMs >= endMs) break
    const machine = burst % machines
    const client = clients[machine]
    nowDueMs = dueMs
    for (let quantity = 0; quantity < quantities; quantity++) {
      const signal = machine * quantities + quantity
      client?.publish(topics[signal] ?? '', payloadOf(next(signal), Math.floor(dueMs)))
    }
    sent += quantities
    client?.flush()
    burst += 1
  }
  if (stop.aborted || nowMs >= endMs) break
  await pause(1, stop)
}
while (acknowledged < sent) await pause(5)
for (const client of clients) client.close()
tell({ sent, acknowledged, measured, latency: latencies.summary() })
process.exit(0)
