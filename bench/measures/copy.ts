// The bridge's writer against psql's binary \copy of the same rows into the same table, which is emptied in between.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { copyFile, createReadings, rowsOf, sealAll } from '../batches.ts'
import type { Bench } from '../bench.ts'
import { openBenchDatabase, POLICIES } from '../database.ts'
import type { BenchDatabase } from '../database.ts'
import { figureOf, skippedBecause, sumOfLosses } from '../figures.ts'
import type { Losses } from '../figures.ts'
import { findProgram } from '../mosquitto.ts'
import { startTeller } from '../program.ts'
import { runPsql } from '../psql.ts'

const BATCH_RECORDS = 5_000
const SENSORS = 200
/** As many as an edge has in flight. */
const IN_FLIGHT = 8
const COLUMNS = 'timestamp, sensor_id, value, value_text, quality, received_at'

const written = z.object({
  seconds: z.number(),
  processorSeconds: z.number(),
  stored: z.int(),
  duplicates: z.int(),
  deadLetters: z.int()
})

export const copyBench: Bench = {
  name: 'copy',
  about: 'rows/s from sealed batches to committed rows with ledger and registry, against psql’s binary \\copy',
  expectedS: { once: 20, round: 18 },
  async run(context) {
    const psql = findProgram('psql')
    if (psql === null) return skippedBecause('psql, the peer, is not installed')
    const bench = await openBenchDatabase(context)
    const count = context.pick(1_000_000, 100_000)
    const columns = createReadings({ count, sensors: SENSORS, endMs: Date.now(), seed: context.seed })
    const folder = context.folder('rows')
    const rowsFile = join(folder, 'rows.bin')
    writeFileSync(rowsFile, copyFile(columns))
    const wires = sealAll(columns, BATCH_RECORDS).map((wire, index) => {
      const file = join(folder, `batch-${index}`)
      writeFileSync(file, wire)
      return file
    })
    // A row of the middle of each batch, there before it.
    const takenFile = join(folder, 'taken.bin')
    writeFileSync(takenFile, copyFile(rowsOf(columns, (index) => index % BATCH_RECORDS === BATCH_RECORDS / 2)))
    const writer = startTeller(context, 'load/writer.ts', {
      url: bench.url,
      retentionDays: POLICIES.retentionDays,
      wires,
      inFlight: IN_FLIGHT
    })
    await writer.next(z.object({ ready: z.literal(true) }))

    const load = (file: string) =>
      runPsql(psql, bench.url, `\\copy sensor_readings (${COLUMNS}) from '${file}' (format binary)`)
    async function byPsql(): Promise<number> {
      await empty(bench)
      return load(rowsFile)
    }
    async function byWriter(duplicates: number): Promise<z.infer<typeof written>> {
      await empty(bench)
      if (duplicates > 0) await load(takenFile)
      writer.ask({ write: true })
      const found = await writer.next(written)
      const rows = await countRows(bench)
      losses.push({
        sent: count,
        lost: Math.max(0, count - rows),
        duplicates: Math.max(0, rows - count) + Math.abs(found.duplicates - duplicates) + found.deadLetters
      })
      return found
    }

    const losses: Losses[] = []
    const peer: number[] = []
    const clean: number[] = []
    const staged: number[] = []
    const cpu: number[] = []
    // Unmeasured: the partitions are made, the sensors known, the programs warm.
    await byWriter(0)
    await byPsql()
    for (let round = 0; round < context.rounds; round++) {
      peer.push(count / (await byPsql()))
      const found = await byWriter(0)
      clean.push(count / found.seconds)
      cpu.push((found.processorSeconds / count) * 1e6)
      staged.push(count / (await byWriter(wires.length)).seconds)
      context.say(
        `round ${round + 1}: psql ${Math.round(peer[round] ?? 0)}, writer ${Math.round(clean[round] ?? 0)}, with duplicates ${Math.round(staged[round] ?? 0)} rows/s`
      )
    }
    writer.stop()
    const sum = sumOfLosses(losses)
    const against = (rates: number[]) => rates.map((rate, round) => rate / (peer[round] ?? Number.NaN))
    return {
      figures: [
        figureOf({
          name: 'of psql \\copy binary',
          unit: '×',
          rounds: against(clean),
          target: { atLeast: 0.85 },
          losses: sum
        }),
        figureOf({
          name: 'with a duplicate in each batch',
          unit: '×',
          rounds: against(staged),
          target: { atLeast: 0.25 },
          losses: sum
        }),
        figureOf({ name: 'psql \\copy binary', unit: 'rows/s', rounds: peer }),
        figureOf({ name: 'bridge’s writer', unit: 'rows/s', rounds: clean, losses: sum }),
        figureOf({ name: 'writer with duplicates', unit: 'rows/s', rounds: staged, losses: sum }),
        figureOf({ name: 'writer’s processor time', unit: 'µs/row', rounds: cpu })
      ],
      notes: [
        `${count} rows of ${SENSORS} sensors in batches of ${BATCH_RECORDS}, one connection, into ${bench.shown}; psql in one transaction, the writer in one a batch`,
        'from the batches’ bytes on: envelope, digest, zstd, columns, COPY, ledger, registry, COMMIT; without the broker before'
      ],
      skipped: null
    }
  }
}

async function empty({ sql }: BenchDatabase): Promise<void> {
  await sql('TRUNCATE sensor_readings, ingest_batches, ingest_lanes')
  // Where the login may: no round pays for another's writing.
  await sql('CHECKPOINT').catch(() => undefined)
}

async function countRows({ sql }: BenchDatabase): Promise<number> {
  const rows = z.array(z.object({ n: z.coerce.number() })).parse(await sql('SELECT count(*) AS n FROM sensor_readings'))
  return rows[0]?.n ?? 0
}
