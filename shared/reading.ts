// The records that travel from a sensor's publish to the database.
//
// Times are microseconds since 1970-01-01T00:00:00Z in a number. Whole microseconds stay exact up to 2^53,
// the year 2255; a timestamp outside ±2^53 µs can't be carried and is a reject with its raw bytes.

/** The largest magnitude of a timestamp that a reading can carry, µs. */
export const MAX_TIMESTAMP_US = Number.MAX_SAFE_INTEGER

/** The longest sensor id, in bytes of UTF-8. */
export const MAX_SENSOR_ID_BYTES = 255

/** The largest record that a batch carries, in bytes; a larger payload is cut (see `Reject`). */
export const MAX_RECORD_BYTES = 64_000

/** OPC quality codes. */
export const QUALITY_GOOD = 192
export const QUALITY_UNCERTAIN = 64
export const QUALITY_BAD = 0

/** A finite double (booleans are 0 and 1), a text, or null: a reading without a value. */
export type Value = number | string | null

/** What is known of a sensor beside its id; null where nothing was said. */
export type Sensor = {
  id: string
  type: string | null
  unit: string | null
}

export type Reading = {
  sensor: Sensor
  /** The source's time; null when the payload has none: the intake then gives the arrival time. */
  timestampUs: number | null
  value: Value
  /** OPC quality, 0…32767. */
  quality: number
}

/** Why a message or a record could not become a reading or an event. */
export type RejectReason =
  | 'payload_unreadable'
  | 'payload_too_deep'
  | 'value_missing'
  | 'value_unreadable'
  | 'timestamp_unreadable'
  | 'timestamp_out_of_range'
  | 'quality_unreadable'
  | 'sensor_id_unreadable'
  | 'event_unreadable'
  | 'record_too_large'
  | 'conflict'

/** What came in and could not be taken, kept to be mended. It becomes a dead letter in the cloud. */
export type Reject = {
  /** UUID made at intake; dead letters are unique on it. */
  id: string
  reason: RejectReason
  /** What was wrong, on what, for a person. */
  detail: string
  topic: string
  /** The payload as it came, cut to `MAX_RECORD_BYTES`. */
  payload: Uint8Array
  /** The payload's length before cutting, bytes. */
  payloadBytes: number
  /** SHA-256 of the whole payload, hex, when it was cut; else null. */
  payloadSha256: string | null
  receivedUs: number
}
