// Rubbish of every kind: whatever comes, the decoder answers, and all that came is accounted for.
import fc from 'fast-check'
import t from 'tap'
import { createDecoder } from '../../edge/decode/decode.ts'
import type { Decoded } from '../../edge/decode/decode.ts'
import { maintenanceEvent } from '../../shared/event.ts'
import { MAX_RECORD_BYTES, MAX_SENSOR_ID_BYTES, MAX_TIMESTAMP_US } from '../../shared/reading.ts'

const TOPICS = ['plant/press-07/temperature', 'plant/press-07/maintenance']

function decode(payload: Uint8Array, topic = 'plant/press-07/temperature'): Decoded {
  let ids = 0
  return createDecoder({ sensorPrefix: 'p/' })({
    topic,
    payload,
    retained: false,
    receivedUs: 5,
    newId: () => {
      ids += 1
      return `id-${ids}`
    }
  })
}

function size(decoded: Decoded): number {
  return decoded.readings.length + decoded.events.length + decoded.rejects.length
}

/** What a record may not be, whatever came in; the first breach found, or null. */
function breachOf(decoded: Decoded, payload: Uint8Array): string | null {
  for (const { sensor, timestampUs, value, quality } of decoded.readings) {
    const idBytes = Buffer.byteLength(sensor.id)
    if (idBytes < 1 || idBytes > MAX_SENSOR_ID_BYTES || !sensor.id.isWellFormed() || !sensor.id.startsWith('p/'))
      return 'sensor id'
    if ([sensor.type, sensor.unit].some((label) => label !== null && (label.length > 100 || !label.isWellFormed())))
      return 'label'
    if (timestampUs !== null && !(Number.isInteger(timestampUs) && Math.abs(timestampUs) <= MAX_TIMESTAMP_US))
      return 'timestamp'
    if (typeof value === 'number' && !Number.isFinite(value)) return 'value'
    if (typeof value === 'string' && (!value.isWellFormed() || Buffer.byteLength(value) > MAX_RECORD_BYTES))
      return 'text value'
    if (!Number.isInteger(quality) || quality < 0 || quality > 32_767) return 'quality'
  }
  if (decoded.events.some((event) => !maintenanceEvent.safeParse(event).success)) return 'event'
  for (const reject of decoded.rejects) {
    if (reject.detail.length > 500 || /\p{Cc}/u.test(reject.detail)) return 'detail'
    if (reject.payload.length > MAX_RECORD_BYTES || reject.payloadBytes > payload.length) return 'payload'
    if ((reject.payloadSha256 === null) !== (reject.payloadBytes === reject.payload.length)) return 'digest'
    if (reject.payloadBytes === 0 && payload.length > 0) return 'nothing kept'
  }
  return null
}

t.test('each of the known poisons is answered, and quickly', async (t) => {
  const nested = (open: string, close: string, levels: number) => open.repeat(levels) + close.repeat(levels)
  const poisons = [
    '{',
    '[',
    '}',
    ']',
    '"',
    ',',
    ':',
    '\\',
    '{"',
    '{"value"',
    '{"value":',
    '[,]',
    '[1,]',
    '{,}',
    '{"value":01}',
    "{'value':1}",
    'NaN',
    '-NaN',
    'Infinity',
    '1e400',
    '-1e400',
    '9223372036854775808',
    '1e-400',
    '--1',
    '0x',
    '\0',
    '\0\0\0\0',
    '{"value":"\0"}',
    '{"value":"\\u0000"}',
    '{"value":1,"sensor_id":"\\u0000"}',
    '{"value":"\\ud800"}',
    '{"\\ud800":1,"values":{"\\ud800":1}}',
    '{"value":NaN}',
    '{"value":1e400}',
    '{"value":9223372036854775808}',
    `{"value":1,"sensor_id":"${'x'.repeat(3_000)}"}`,
    '{"value":1,"timestamp":"+292278-08-17T07:12:55Z"}',
    '{"value":1,"timestamp":9223372036854775807}',
    `{"value":1,"timestamp":1${'0'.repeat(200_000)}}`,
    `{"value":1,"timestamp":"${'9'.repeat(200_000)}"}`,
    `{"value":${'9'.repeat(200_000)}}`,
    `{"value":1,"quality":${'9'.repeat(200_000)}}`,
    `{"value":1,"unit":${'9'.repeat(200_000)}}`,
    '{"__proto__":null,"value":1}',
    '{"__proto__":{"value":1}}',
    '{"value":{"__proto__":[]}}',
    '{"values":{"__proto__":{"__proto__":1}}}',
    '{"constructor":1,"hasOwnProperty":1,"toString":1,"valueOf":1}',
    '{"values":{"value":{"value":{"value":1}}}}',
    '['.repeat(200_000),
    ']'.repeat(200_000),
    '{"a":'.repeat(50_000),
    nested('[', ']', 100_000),
    nested('{"value":', '}', 20_000),
    '"'.repeat(200_000),
    `[${'"'.repeat(199_999)}`,
    '\\'.repeat(200_000),
    `{"value":"${'\\"'.repeat(100_000)}"}`,
    ' '.repeat(200_000),
    `[${' '.repeat(199_998)}]`,
    `[${'{},'.repeat(60_000)}{}]`,
    `[${'{"value":1},'.repeat(20_000)}{"value":1}]`,
    `{"values":{${Array.from({ length: 15_000 }, (_, index) => `"n${index}":[]`).join(',')}}}`,
    'x'.repeat(256_000),
    '9'.repeat(256_000),
    '\ufeff',
    '\ufeff\ufeff',
    '\u2028',
    '\u202e{"value":1}'
  ].map((text) => Buffer.from(text))
  const bytes = [
    [0xff],
    [0xc0, 0x80],
    [0xed, 0xa0, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0xfe, 0xff, 0, 0x31],
    [0x22, 0xff, 0x22],
    [0x80]
  ]
  for (const payload of [...poisons, ...bytes.map((codes) => Buffer.from(codes))]) {
    for (const topic of TOPICS) {
      const startMs = performance.now()
      const decoded = decode(payload, topic)
      const ms = performance.now() - startMs
      const name = `${JSON.stringify(payload.toString('latin1').slice(0, 40))}, ${payload.length} bytes`
      t.equal(breachOf(decoded, payload), null, name)
      t.ok(size(decoded) >= 1 || payload.toString().startsWith('[ '), `${name} leaves something`)
      t.ok(ms < 1_500, `${name} takes ${ms.toFixed(1)} ms`)
    }
  }
  t.notOk('value' in {})
})

t.test('what is rejected is never more than what came, however many its faults', async (t) => {
  const values = Array.from({ length: 10_000 }, (_, index) => `"n${index}":[]`).join(',')
  const elements = Array.from({ length: 5_000 }, (_, index) => `{"value":[${index}]}`).join(',')
  for (const text of [`{"sensor_id":"${'x'.repeat(200)}","values":{${values}}}`, `[${elements}]`]) {
    const { rejects } = decode(Buffer.from(text))
    t.ok(rejects.reduce((sum, { payloadBytes }) => sum + payloadBytes, 0) <= text.length)
  }
})

t.test('random bytes are answered', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.constantFrom(...TOPICS), (payload, topic) => {
      const decoded = decode(payload, topic)
      return breachOf(decoded, payload) === null && size(decoded) === 1
    }),
    { numRuns: 10_000 }
  )
})

/** Objects made of the field names that count, holding whatever JSON can hold. */
const anyJson = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(
    1e300,
    -1,
    192,
    'good',
    'bad',
    1795309323,
    '2026-11-22T01:02:03Z',
    'pending',
    'completed',
    '',
    'T-1',
    '\0',
    '\ud800'
  )
)
const name = fc.constantFrom(
  'value',
  'values',
  'timestamp',
  'ts',
  'quality',
  'unit',
  'sensor_type',
  'sensor_id',
  'task',
  'state',
  'status',
  'event_id',
  'equipment',
  'note',
  '__proto__'
)
const object = fc.array(fc.tuple(name, fc.oneof(anyJson, fc.dictionary(fc.string(), anyJson)))).map((members) => {
  return `{${members.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`
})

t.test(
  'objects of the fields that count, holding anything, whole or cut or with a byte changed, are answered',
  async () => {
    fc.assert(
      fc.property(
        object,
        fc.constantFrom(...TOPICS),
        fc.option(fc.tuple(fc.nat(), fc.nat(255))),
        (text, topic, change) => {
          const payload = Buffer.from(text)
          if (change !== null) payload.writeUInt8(change[1], change[0] % payload.length)
          const short = payload.subarray(0, payload.length - ((change?.[0] ?? 0) % 2))
          const decoded = decode(short, topic)
          return breachOf(decoded, short) === null && (size(decoded) >= 1 || short.toString().trim().startsWith('['))
        }
      ),
      { numRuns: 10_000 }
    )
  }
)

t.test('a number is bit for bit what JSON gives for it', async () => {
  const number = fc.oneof(
    fc
      .double({ noNaN: true, noDefaultInfinity: true })
      .map((value) => (Object.is(value, -0) ? '-0' : String(value).replace('e+', 'e'))),
    fc.stringMatching(/^-?(0|[1-9]\d{0,14})(\.\d{1,25})?([eE][+-]?\d{1,2})?$/)
  )
  fc.assert(
    fc.property(number, fc.constantFrom('', '1795309323456789123'), (source, stamp) => {
      const expected: unknown = JSON.parse(source)
      const isLong = /^-?\d+$/.test(source) && Math.abs(Number(source)) > 2 ** 53
      const inObject = decode(Buffer.from(`{"value":${source}${stamp === '' ? '' : `,"timestamp":${stamp}`}}`))
        .readings[0]?.value
      const bare = decode(Buffer.from(source)).readings[0]?.value
      return isLong
        ? inObject === source && bare === source
        : Object.is(inObject, expected) && Object.is(bare, expected)
    }),
    { numRuns: 10_000 }
  )
})

t.test('a text is what was written', async () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
      return decode(Buffer.from(JSON.stringify({ value: text }))).readings[0]?.value === text
    }),
    { numRuns: 2_000 }
  )
})

t.test('every element of an array is one reading or one reject of just its text, in order', async () => {
  const good = fc
    .tuple(fc.integer(), fc.constantFrom('', ' ', '\n\t'))
    .map(([value, space]) => `{${space}"value"${space}:${space}${value}}`)
  const bad = fc.oneof(
    fc
      .jsonValue({ maxDepth: 3 })
      .filter((value) => typeof value !== 'object' || value === null)
      .map((value) => JSON.stringify(value)),
    fc.constantFrom(
      '[]',
      '[{"value":1}]',
      '{}',
      '{"value":1e400}',
      '{"value":"\\ud800","n":"],[\\"{"}',
      '{"value":[1, 2],"x":{"y":","}}'
    ),
    fc.bigInt({ min: 2n ** 60n }).map(String)
  )
  const element = fc.oneof(
    good.map((text) => ({ text, isGood: true })),
    bad.map((text) => ({ text, isGood: false }))
  )
  fc.assert(
    fc.property(fc.array(element), fc.constantFrom(',', ' , ', ',\r\n'), (elements, comma) => {
      const { readings, rejects } = decode(Buffer.from(`[${elements.map(({ text }) => text).join(comma)}]`))
      const values = elements.filter(({ isGood }) => isGood).map(({ text }) => Number(text.replace(/[^-\d]/g, '')))
      const texts = elements.filter(({ isGood }) => !isGood).map(({ text }) => text)
      return (
        JSON.stringify(readings.map(({ value }) => value)) === JSON.stringify(values) &&
        JSON.stringify(rejects.map(({ payload }) => Buffer.from(payload).toString())) === JSON.stringify(texts)
      )
    }),
    { numRuns: 2_000 }
  )
})
