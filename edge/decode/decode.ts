// From a message to records, without any mapping.
//
// Promises: never throws; nothing that came in is dropped: every value, event and array element becomes a reading, an
// event or part of a reject. The exceptions are listed in docs/input.md (an empty retained payload, an empty array).
// Knows no clock and does no I/O. Topics under `millrace/` and the policy for retained messages are the caller's.
import { messageOf } from '../../shared/errors.ts'
import type { MaintenanceEvent } from '../../shared/event.ts'
import type { Reading, Reject } from '../../shared/reading.ts'
import { MAX_DEPTH, isObject, isTooDeep, parseJson, splitItems } from './json.ts'
import { isMaintenanceTopic, readEvent } from './maintenance.ts'
import { keepNamedValues, readObject } from './reading.ts'
import { createReject, describe, isFault } from './reject.ts'
import type { Fault } from './reject.ts'
import { defaultQuality, readBareValue } from './scalar.ts'
import { checkSensorId } from './sensor.ts'
import { readUtf8 } from './utf8.ts'

export type Message = {
  topic: string
  payload: Uint8Array
  retained: boolean
  receivedUs: number
  /** Makes the ids of rejects, and of events that bring nothing to make one from. */
  newId: () => string
}

export type Decoded = { readings: Reading[]; events: MaintenanceEvent[]; rejects: Reject[] }

const OPENING_BRACE = 123
const OPENING_BRACKET = 91

/** `sensorPrefix` is put in front of every sensor id. */
export function createDecoder(options: { sensorPrefix: string }): (message: Message) => Decoded {
  const { sensorPrefix } = options

  return (message) => {
    try {
      return decode(message, sensorPrefix)
    } catch (error) {
      // Nothing foreseen comes here; whatever does costs this message, not the service.
      return rejected(message, { reason: 'payload_unreadable', detail: `decoding failed: ${messageOf(error)}` })
    }
  }
}

function decode(message: Message, prefix: string): Decoded {
  const text = readUtf8(message.payload)
  if (text === null) return rejected(message, unreadable('the payload is no valid UTF-8 text'))
  const trimmed = text.trim()
  if (trimmed === '') {
    // MQTT's way to clear a retained message: carries nothing.
    if (message.retained && message.payload.length === 0) return { readings: [], events: [], rejects: [] }
    return rejected(message, unreadable('the payload is empty'))
  }
  const first = trimmed.charCodeAt(0)
  if (first === OPENING_BRACE || first === OPENING_BRACKET) return decodeJson(message, trimmed, prefix)
  return decodeBare(message, text, trimmed, prefix)
}

function decodeBare(message: Message, text: string, trimmed: string, prefix: string): Decoded {
  if (isMaintenanceTopic(message.topic)) {
    const detail =
      'the payload is no JSON object; a maintenance event is one, such as {"task": "T-1", "state": "completed"}'
    return rejected(message, { reason: 'event_unreadable', detail })
  }
  const id = prefix + message.topic
  const value = readBareValue(text, trimmed)
  if (isFault(value)) return rejected(message, value)
  const idFault = checkSensorId(id)
  if (idFault !== null) return rejected(message, idFault)
  const reading = { sensor: { id, type: null, unit: null }, timestampUs: null, value, quality: defaultQuality(value) }
  return { readings: [reading], events: [], rejects: [] }
}

function decodeJson(message: Message, text: string, prefix: string): Decoded {
  if (isTooDeep(text)) {
    return rejected(message, {
      reason: 'payload_too_deep',
      detail: `the payload nests deeper than ${MAX_DEPTH} levels`
    })
  }
  let parsed: unknown
  try {
    parsed = parseJson(text)
  } catch (error) {
    return rejected(message, unreadable(`the payload begins like JSON and isn't: ${messageOf(error)}`))
  }
  const decoded: Decoded = { readings: [], events: [], rejects: [] }
  if (!Array.isArray(parsed)) {
    decodeItem(message, parsed, prefix, decoded, '', () => text)
    return decoded
  }
  // Taken apart only when an element is rejected, and then once.
  let sources: string[] | null = null
  for (const [index, item] of parsed.entries()) {
    decodeItem(message, item, prefix, decoded, `element ${index}: `, () => {
      sources ??= splitItems(text)
      return sources[index] ?? ''
    })
  }
  return decoded
}

/** Appends what an object gives. `at` opens the detail of its rejects; `sourceText` is what came in for it. */
function decodeItem(
  message: Message,
  item: unknown,
  prefix: string,
  decoded: Decoded,
  at: string,
  sourceText: () => string
): void {
  function reject(fault: Fault, payload: Uint8Array): void {
    decoded.rejects.push(createReject(message, { reason: fault.reason, detail: at + fault.detail }, payload))
  }
  // A message rejected whole keeps its bytes as they came.
  const source = () => (at === '' ? message.payload : Buffer.from(sourceText()))

  if (!isObject(item)) {
    reject(unreadable(`it is ${describe(item)}; an array carries objects`), source())
    return
  }
  if (isMaintenanceTopic(message.topic)) {
    const event = readEvent(item, message, prefix)
    if ('reason' in event) reject(event, source())
    else decoded.events.push(event)
    return
  }
  const fault = readObject(item, message.topic, prefix, decoded.readings)
  if (fault === null) return
  reject(fault, fault.names === null ? source() : Buffer.from(keepNamedValues(sourceText(), fault.names)))
}

function rejected(message: Message, fault: Fault): Decoded {
  return { readings: [], events: [], rejects: [createReject(message, fault, message.payload)] }
}

function unreadable(detail: string): Fault {
  return { reason: 'payload_unreadable', detail }
}
