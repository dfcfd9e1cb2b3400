import t from '/work/main/node_modules/tap/dist/esm/index.js'
import { BASE_US, createChain, ramp } from '/work/main/test/helpers/batches.ts'
import { openIngest, writeAll } from '/work/main/test/helpers/ingest.ts'
t.test('x', async (t) => {
    const bench = await openIngest(t)
    const writer = bench.writer()
    const chain = createChain('g')
    const batches = Array.from({ length: 4 }, (_, index) => chain.readings(ramp(400, { fromUs: BASE_US + index * 3_600_000_000 })))
    await bench.sql('TRUNCATE sensor_readings; ALTER TABLE sensor_readings ADD COLUMN shift text; ALTER TABLE sensor_readings ADD CONSTRAINT c CHECK (true); ALTER TABLE sensor_readings ALTER COLUMN shift SET NOT NULL')
    const outcomes = writeAll(writer, batches)
    for (let i = 0; i < 12; i++) { await new Promise((r) => setTimeout(r, 300)); console.log(JSON.stringify(writer.state())) 
     console.log(await bench.sql(`select query, wait_event, state from pg_stat_activity where application_name='writer'`)) }
    await bench.sql(`ALTER TABLE sensor_readings ALTER COLUMN shift SET DEFAULT 'early'`)
    console.log(await outcomes)
})
