// A batch that fails by itself while others get through is told from a fault of the database or of the bridge.
import t from 'tap'
import { BASE_US, createChain, ramp, stumblingOver } from '../helpers/batches.ts'
import { openIngest, unbalanced, writeAll } from '../helpers/ingest.ts'
import { waitFor } from '../helpers/wait-for.ts'

const committed = { result: 'committed', reason: null, stored: 0, duplicates: 0, deadLetters: 0 }

t.test('a batch that only others can follow keeps no one from the table', async (t) => {
  const bench = await openIngest(t)
  await bench.sql(`
    CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.value = 666 THEN RAISE EXCEPTION 'no more locks' USING ERRCODE = '53200'; END IF;
      RETURN NEW;
    END $$;
    CREATE TRIGGER stumble BEFORE INSERT ON sensor_readings FOR EACH ROW EXECUTE FUNCTION stumble()`)
  const writer = bench.writer()
  const chain = createChain('g')
  const bad = chain.readings([...ramp(20), { sensor: 's0', timestampUs: BASE_US - 1, value: 666 }])
  const outcome = writer.write([bad.arrived])
  for (let index = 0; index < 20; index++) {
    await writer.write([chain.readings(ramp(10, { fromUs: BASE_US + (index + 1) * 3_600_000_000 })).arrived])
  }
  let next = 21
  const [settled] = await Promise.race([outcome, keepWriting()])
  t.same(settled, { ...committed, stored: 20, deadLetters: 1 })
  t.match(await bench.sql('SELECT sqlstate, reason FROM dead_letters'), [
    { sqlstate: '53200', reason: 'refused_by_database' }
  ])
  t.same(await unbalanced(bench), [])

  async function keepWriting(): Promise<never> {
    for (; next < 500; next++) {
      await writer.write([chain.readings(ramp(10, { fromUs: BASE_US + next * 60_000_000 + 7 })).arrived])
      await waitFor('a moment to pass', () => true)
    }
    throw new Error('the batch was never settled')
  }
})

t.test(
  'a record that ends the session each time is found and becomes a dead letter, the others are stored',
  async (t) => {
    const bench = await openIngest(t)
    await bench.sql(`
    CREATE FUNCTION fell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.value = 666 THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(1);
      END IF;
      RETURN NEW;
    END $$;
    CREATE TRIGGER fell BEFORE INSERT ON sensor_readings FOR EACH ROW EXECUTE FUNCTION fell()`)
    const writer = bench.writer()
    const chain = createChain('g')
    const bad = chain.readings([...ramp(20), { sensor: 's0', timestampUs: BASE_US - 1, value: 666 }])
    const outcome = writer.write([bad.arrived])
    let settled = false
    void outcome.then(() => (settled = true))
    for (let index = 0; index < 2_000 && !settled; index++) {
      await writer.write([chain.readings([{ sensor: 's1', timestampUs: BASE_US + 1 + index }]).arrived])
    }
    t.ok(settled)
    t.same(await outcome, [{ ...committed, stored: 20, deadLetters: 1 }])
    t.match(await bench.sql('SELECT reason, sqlstate, detail, seq FROM dead_letters'), [
      { reason: 'refused_by_database', sqlstate: '57P01', detail: /ends the database session/, seq: 21 }
    ])
    t.same(await unbalanced(bench), [])
  }
)

t.test("a batch that the program stumbles over is held, in nobody's way, and stored when that is mended", async (t) => {
  const bench = await openIngest(t)
  const writer = bench.writer()
  let broken = true
  const bad = stumblingOver(createChain('bad').readings(ramp(7, { prefix: 'bad' })), () => broken)
  const others = ['g1', 'g2'].map((gateway) => createChain(gateway))
  const first = writer.write([bad])
  t.match(
    await writeAll(
      writer,
      others.map((chain) => chain.readings(ramp(10, { prefix: chain.gateway })))
    ),
    [
      { result: 'committed', stored: 10 },
      { result: 'committed', stored: 10 }
    ]
  )
  await waitFor('the batch to be held', () => writer.state().held !== null)
  t.match(writer.state(), {
    waiting: 1,
    held: { sqlstate: null, message: 'a fault of the program', hint: /others go on/ }
  })
  t.same(await bench.sql(`SELECT count(*) FROM ingest_batches WHERE gateway_id = 'bad'`), [{ count: 0 }])
  t.same(await bench.sql('SELECT count(*) FROM dead_letters'), [{ count: 0 }])
  const again = writer.write([bad])
  t.match(await first, [{ result: 'superseded' }])
  t.equal(writer.state().waiting, 1)
  broken = false
  t.same(await again, [{ ...committed, stored: 7 }])
  t.equal(writer.state().held, null)
  t.same(await unbalanced(bench), [])
})

t.test(
  'a batch that the program stumbles over for good, while others get through, becomes a dead letter',
  async (t) => {
    const bench = await openIngest(t)
    const writer = bench.writer()
    const original = createChain('bad').readings(ramp(7))
    const outcome = writer.write([stumblingOver(original, () => true)])
    const chain = createChain('g')
    let settled = false
    void outcome.then(() => (settled = true))
    for (let index = 0; index < 3_000 && !settled; index++) {
      await writer.write([chain.readings([{ sensor: 's', timestampUs: BASE_US + index }]).arrived])
    }
    t.ok(settled)
    t.match(await bench.sql('SELECT reason, detail, payload FROM dead_letters'), [
      {
        reason: 'batch_undecodable',
        detail: /given up after \d+ tries: a fault of the program/,
        payload: Buffer.from(original.wire)
      }
    ])
    t.match(await bench.sql(`SELECT kind, dead_lettered FROM ingest_batches WHERE gateway_id = 'bad'`), [
      { kind: 'undecodable', dead_lettered: 7 }
    ])
  }
)
