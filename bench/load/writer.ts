// The bridge's way from a batch's bytes to committed rows, without the broker before it: envelopes are opened as the
// receiver opens them, and the writer takes as many at once as an edge has in flight. One connection.
// Reads lines of JSON, each a task; answers each with how long it took and what was stored.
import { createInterface } from 'node:readline'
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { detectEngine, openDatabase } from '../../cloud/database.ts'
import { createWriter } from '../../cloud/ingest/write.ts'
import { openEnvelope } from '../../shared/batch/envelope.ts'
import { silentLog } from '../../shared/log.ts'
import { readTask, tell } from './task.ts'

const task = readTask(
  z.object({ url: z.string(), retentionDays: z.number(), wires: z.array(z.string()), inFlight: z.int() })
)
const order = z.object({ write: z.literal(true) })

const database = openDatabase({ url: task.url, max: 1, log: silentLog(), applicationName: 'millrace-bench' })
const engine = await database.withClient((client) => detectEngine(client))
const writer = createWriter({ database, engine, retentionDays: task.retentionDays, now: Date.now, log: silentLog() })
const wires = task.wires.map((file) => new Uint8Array(readFileSync(file)))
tell({ ready: true })

for await (const line of createInterface({ input: process.stdin })) {
  order.parse(JSON.parse(line))
  const startMs = performance.now()
  const startCpu = process.cpuUsage()
  const sums = { stored: 0, duplicates: 0, deadLetters: 0 }
  let next = 0
  async function lane(): Promise<void> {
    for (let wire = wires[next++]; wire !== undefined; wire = wires[next++]) {
      const [outcome] = await writer.write([{ kind: 'batch', envelope: openEnvelope(wire), wire }])
      if (outcome?.result !== 'committed') throw new Error(`a batch was answered with ${outcome?.result}`)
      sums.stored += outcome.stored
      sums.duplicates += outcome.duplicates
      sums.deadLetters += outcome.deadLetters
    }
  }
  await Promise.all(Array.from({ length: task.inFlight }, lane))
  const seconds = (performance.now() - startMs) / 1_000
  const { user, system } = process.cpuUsage(startCpu)
  tell({ seconds, processorSeconds: (user + system) / 1e6, ...sums })
}
await writer.close()
await database.close()
process.exit(0)
