// Readings of a JSON object: of one value, `{"value": …}`, or of many, `{"values": {"name": …}}`.
//
// Read by hand and not by a schema: this runs for every message, and each fault has a reason of its own.
import type { Reading } from '../../shared/reading.ts'
import { isObject, splitItems, splitMember } from './json.ts'
import type { JsonObject } from './json.ts'
import { describe, isFault } from './reject.ts'
import type { Fault } from './reject.ts'
import { defaultQuality, readQuality, readValue } from './scalar.ts'
import { checkSensorId, readLabel, readSensorId } from './sensor.ts'
import { readTimestamp } from './timestamp.ts'

/** A fault of an object. `names`: those of its `values` that it concerns, the others being readings; null: all of it. */
export type ObjectFault = Fault & { names: string[] | null }

/** Faults that are named one by one in a detail. */
const NAMED_FAULTS = 3

/** Appends the object's readings to `readings`; gives the fault of what could not be read, or null. */
export function readObject(object: JsonObject, topic: string, prefix: string, readings: Reading[]): ObjectFault | null {
  if (object.values !== undefined) return readValues(object, topic, prefix, readings)
  if (object.value === undefined) {
    const detail = 'the object has neither value nor values; write {"value": 21.5} or {"values": {"temperature": 21.5}}'
    return { reason: 'value_missing', detail, names: null }
  }
  const givenId = readSensorId(object.sensor_id)
  if (isFault(givenId)) return { ...givenId, names: null }
  const reading = readOne(object, prefix + (givenId ?? topic), NOTHING)
  if ('reason' in reading) return { ...reading, names: null }
  readings.push(reading)
  return null
}

/** What the outer object says for those of its values that don't say it themselves. */
type Defaults = { timestampUs: number | null; quality: number | null; unit: string | null; type: string | null }

const NOTHING: Defaults = { timestampUs: null, quality: null, unit: null, type: null }

function readValues(object: JsonObject, topic: string, prefix: string, readings: Reading[]): ObjectFault | null {
  const { values } = object
  if (object.value !== undefined)
    return whole('value_unreadable', 'the object has both value and values; one is allowed')
  if (!isObject(values)) {
    return whole('value_unreadable', `values is ${describe(values)}; an object of names and values is allowed`)
  }
  const givenId = readSensorId(object.sensor_id)
  if (isFault(givenId)) return { ...givenId, names: null }
  const timestampUs = readTimestamp(object.timestamp ?? object.ts)
  if (isFault(timestampUs)) return { ...timestampUs, names: null }
  const quality = readQuality(object.quality)
  if (isFault(quality)) return { ...quality, names: null }
  const names = Object.keys(values)
  if (names.length === 0) return whole('value_missing', 'values is empty; at least one name and value is needed')

  const defaults = { timestampUs, quality, unit: readLabel(object.unit), type: readLabel(object.sensor_type) }
  const idOfAll = `${prefix}${givenId ?? topic}/`
  const faults: { name: string; fault: Fault }[] = []
  for (const name of names) {
    const value = values[name]
    const reading =
      name === ''
        ? { reason: 'sensor_id_unreadable' as const, detail: 'the name is empty' }
        : readOne(isObject(value) ? value : { value }, idOfAll + name, defaults)
    if ('reason' in reading) faults.push({ name, fault: reading })
    else readings.push(reading)
  }
  const [first] = faults
  if (first === undefined) return null
  const named = faults.slice(0, NAMED_FAULTS).map(({ name, fault }) => `values ${describe(name)}: ${fault.detail}`)
  const others = faults.length > NAMED_FAULTS ? [`and ${faults.length - NAMED_FAULTS} more`] : []
  return {
    reason: first.fault.reason,
    detail: [...named, ...others].join('; '),
    names: faults.map(({ name }) => name)
  }
}

function readOne(object: JsonObject, id: string, defaults: Defaults): Reading | Fault {
  const idFault = checkSensorId(id)
  if (idFault !== null) return idFault
  const timestampUs = readTimestamp(object.timestamp ?? object.ts)
  if (isFault(timestampUs)) return timestampUs
  const quality = readQuality(object.quality)
  if (isFault(quality)) return quality
  if (object.value === undefined) return { reason: 'value_unreadable', detail: 'the object has no value' }
  const value = readValue(object.value)
  if (isFault(value)) return value
  return {
    sensor: { id, type: readLabel(object.sensor_type) ?? defaults.type, unit: readLabel(object.unit) ?? defaults.unit },
    timestampUs: timestampUs ?? defaults.timestampUs,
    value,
    quality: quality ?? defaults.quality ?? defaultQuality(value)
  }
}

/**
 * The source text of an object of many values, with only those that are named: what is left to be mended when the
 * others have become readings.
 */
export function keepNamedValues(text: string, names: readonly string[]): string {
  const members = splitItems(text).map((source) => ({ source, ...splitMember(source) }))
  const values = members.findLast(({ name }) => name === 'values')
  const kept = new Set(names)
  const bad = splitItems(values?.value ?? '{}').filter((source) => kept.has(splitMember(source).name))
  const others = members.filter(({ name }) => name !== 'values').map(({ source }) => source)
  return `{${[...others, `"values":{${bad.join(',')}}`].join(',')}}`
}

function whole(reason: Fault['reason'], detail: string): ObjectFault {
  return { reason, detail, names: null }
}
