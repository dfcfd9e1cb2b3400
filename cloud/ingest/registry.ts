// The sensors and their owners. Unknown sensors register themselves in the transaction that stores their first readings;
// the gateway that registers a sensor first owns it.
//
// Owners are remembered for a while, and only what a committed transaction has seen: `learn` comes after the COMMIT.
import { MAX_SENSOR_ID_BYTES } from '../../shared/reading.ts'
import type { Client } from '../database.ts'
import { cleanText } from './dead-letters.ts'
import type { RowSensor } from './rows.ts'
import { salvage } from './salvage.ts'

/** How long an owner is believed; so long does it take until a sensor marked as shared is taken from others. */
const OWNER_TTL_MS = 30_000
const MAX_REMEMBERED = 500_000
const PROBE_ID = 'millrace/probe'

type Owner = { gateway: string; shared: boolean }

/** What a transaction has seen of the owners. */
export type Seen = Map<string, Owner>

export type Registry = {
  /**
   * Registers the unknown and sets `refusal` on those whose readings can't be stored. Part of the transaction.
   * @throws TableFault when the table takes no sensor at all
   */
  settle(client: Client, sensors: readonly RowSensor[], stubborn: boolean): Promise<Seen>
  /** After the COMMIT. */
  learn(seen: Seen): void
}

export function createRegistry(options: {
  now: () => number
  /** Monotonic, so that a step of the wall clock doesn't lengthen a belief. */
  clockMs?: () => number
  ttlMs?: number
}): Registry {
  const clockMs = options.clockMs ?? (() => performance.now())
  const ttlMs = options.ttlMs ?? OWNER_TTL_MS
  const remembered = new Map<string, Owner & { untilMs: number }>()

  async function look(client: Client, ids: readonly string[]): Promise<Seen> {
    const { rows } = await client.query<{ sensor_id: string; gateway_id: string; shared: boolean }>({
      name: 'find_sensors',
      text: 'SELECT sensor_id, gateway_id, shared FROM sensors WHERE sensor_id = ANY($1::text[])',
      values: [ids]
    })
    return new Map(rows.map((row) => [row.sensor_id, { gateway: row.gateway_id, shared: row.shared }]))
  }

  async function register(client: Client, sensors: readonly RowSensor[]): Promise<void> {
    await client.query({
      name: 'register_sensors',
      text: `
        INSERT INTO sensors (sensor_id, sensor_type, unit, gateway_id, first_seen, last_seen)
        SELECT sensor_id, sensor_type, unit, gateway_id, $5, $5
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS new (sensor_id, sensor_type, unit, gateway_id)
        ON CONFLICT (sensor_id) DO NOTHING`,
      values: [
        sensors.map((sensor) => sensor.id),
        sensors.map((sensor) => (sensor.type === null ? null : cleanText(sensor.type))),
        sensors.map((sensor) => (sensor.unit === null ? null : cleanText(sensor.unit))),
        sensors.map((sensor) => sensor.gateway),
        new Date(options.now()).toISOString()
      ]
    })
  }

  async function probe(client: Client): Promise<void> {
    const sensor = {
      id: PROBE_ID,
      type: null,
      unit: null,
      gateway: 'probe',
      bytes: Buffer.alloc(0),
      rank: 0,
      refusal: null
    }
    await register(client, [sensor])
  }

  return {
    async settle(client, sensors, stubborn) {
      const nowMs = clockMs()
      const asked: RowSensor[] = []
      const seen: Seen = new Map()
      for (const sensor of sensors) {
        sensor.refusal = null
        const problem = problemOf(sensor)
        const owner = remembered.get(sensor.id)
        if (problem !== null) refuse(sensor, problem, sensor.id.includes('\0') ? '22021' : null)
        else if (owner === undefined || owner.untilMs <= nowMs) asked.push(sensor)
        else judge(sensor, owner)
      }
      if (asked.length === 0) return seen
      const found = await look(
        client,
        asked.map((sensor) => sensor.id)
      )
      const unknown = firstOfEach(asked.filter((sensor) => !found.has(sensor.id)))
      if (unknown.length > 0) {
        const { refused } = await salvage({
          client,
          items: unknown,
          stubborn,
          store: (some) => register(client, some),
          probe: () => probe(client)
        })
        for (const { item, sqlstate, message } of refused) {
          for (const sensor of asked) if (sensor.id === item.id) refuse(sensor, message, sqlstate)
        }
        const registered = unknown.filter((sensor) => sensor.refusal === null).map((sensor) => sensor.id)
        for (const [id, owner] of await look(client, registered)) found.set(id, owner)
      }
      for (const sensor of asked) {
        const owner = found.get(sensor.id)
        if (owner === undefined) continue
        seen.set(sensor.id, owner)
        judge(sensor, owner)
      }
      return seen
    },
    learn(seen) {
      if (remembered.size + seen.size > MAX_REMEMBERED) remembered.clear()
      const untilMs = clockMs() + ttlMs
      for (const [id, owner] of seen) remembered.set(id, { ...owner, untilMs })
    }
  }
}

function problemOf(sensor: RowSensor): string | null {
  if (sensor.id.includes('\0')) return 'the sensor id contains NUL'
  if (sensor.bytes.length <= MAX_SENSOR_ID_BYTES) return null
  return `the sensor id has ${sensor.bytes.length} bytes, at most ${MAX_SENSOR_ID_BYTES} are taken`
}

function refuse(sensor: RowSensor, detail: string, sqlstate: string | null): void {
  sensor.refusal = { reason: 'sensor_refused', detail, sqlstate }
}

function judge(sensor: RowSensor, owner: Owner): void {
  if (owner.shared || owner.gateway === sensor.gateway) return
  const detail = `the sensor belongs to the gateway ${owner.gateway}; mark it as shared to take readings from others`
  sensor.refusal = { reason: 'foreign_sensor', detail, sqlstate: null }
}

/** Each id once, sorted by id. */
function firstOfEach(sensors: readonly RowSensor[]): RowSensor[] {
  const byId = new Map<string, RowSensor>()
  for (const sensor of sensors) if (!byId.has(sensor.id)) byId.set(sensor.id, sensor)
  return [...byId.values()].sort((a, b) => a.rank - b.rank)
}
