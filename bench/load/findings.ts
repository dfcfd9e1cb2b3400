// What the load generators say at their end, as the benches read it.
import { z } from 'zod'

const latency = z.object({ p50Ms: z.number(), p99Ms: z.number(), maxMs: z.number(), count: z.int() })

/** clients.ts, raw-clients.ts */
export const closedLoop = z.object({
  sent: z.int(),
  acknowledged: z.int(),
  /** Within the measured time. */
  perSecond: z.number(),
  latency
})

/** plant.ts: latencies from the time at which a message should have been sent. */
export const openLoop = z.object({ sent: z.int(), acknowledged: z.int(), measured: z.int(), latency })

/** fill.ts, flood.ts */
export const amount = z.object({ messages: z.int(), readings: z.int(), seconds: z.number() })

/** sink.ts, and edges asked for their sums: how many had come by when. */
export const progress = z.array(z.object({ atMs: z.number(), count: z.int() }))

/** Of two-lane closed-loop tasks: how long, and from when on it counts. */
export const closedLoopTask = z.object({
  port: z.int(),
  clients: z.int(),
  inFlight: z.int(),
  warmUpMs: z.number(),
  measureMs: z.number(),
  seed: z.int()
})
