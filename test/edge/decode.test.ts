import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { createDecoder } from '../../edge/decode/decode.ts'
import type { Decoded } from '../../edge/decode/decode.ts'
import { MAX_RECORD_BYTES } from '../../shared/reading.ts'

const TOPIC = 'plant/line-3/press-07/temperature'
const ARRIVAL_US = 1_795_309_999_000_000

function decode(
  payload: string | Uint8Array,
  options: { topic?: string; retained?: boolean; prefix?: string } = {}
): Decoded {
  let ids = 0
  return createDecoder({ sensorPrefix: options.prefix ?? '' })({
    topic: options.topic ?? TOPIC,
    payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
    retained: options.retained ?? false,
    receivedUs: ARRIVAL_US,
    newId: () => {
      ids += 1
      return `id-${ids}`
    }
  })
}

function text(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString()
}

/** id, value, quality of each reading, and the reason of each reject. */
function outline(decoded: Decoded): unknown[] {
  const readings = decoded.readings.map(({ sensor, value, quality }) => [sensor.id, value, quality])
  return [...readings, ...decoded.rejects.map(({ reason }) => reason)]
}

t.test('an object is a reading with all that it says', async (t) => {
  const payload =
    '{"value":21.5,"timestamp":"2026-11-22T01:02:03.456789Z","quality":64,"unit":"°C","sensor_type":"temperature","sensor_id":"t-7"}'
  t.strictSame(decode(payload, { prefix: 'hall-2/' }), {
    readings: [
      {
        sensor: { id: 'hall-2/t-7', type: 'temperature', unit: '°C' },
        timestampUs: 1_795_309_323_456_789,
        value: 21.5,
        quality: 64
      }
    ],
    events: [],
    rejects: []
  })
})

t.test('an object that says nothing but its value is of the topic, of good quality, and of no time', async (t) => {
  t.strictSame(decode('{"value":1}', { prefix: 'p/' }).readings, [
    { sensor: { id: `p/${TOPIC}`, type: null, unit: null }, timestampUs: null, value: 1, quality: 192 }
  ])
})

const VALUES: [source: string, value: number | string | null, quality?: number][] = [
  ['21.5', 21.5],
  ['-0', -0],
  ['5e-324', 5e-324],
  ['1.7976931348623157e308', Number.MAX_VALUE],
  ['1e20', 1e20],
  ['0.12345678901234567', 0.12345678901234566],
  ['9007199254740991', 9007199254740991],
  ['9007199254740992', 9007199254740992],
  ['9007199254740993', '9007199254740993'],
  ['-9007199254740993', '-9007199254740993'],
  ['9223372036854775808', '9223372036854775808'],
  [`1${'0'.repeat(400)}`, `1${'0'.repeat(400)}`],
  ['true', 1],
  ['false', 0],
  ['null', null, 0],
  ['"21.5"', '21.5'],
  ['""', ''],
  ['"a\\u0000b"', 'a\0b'],
  ['"\\ud83d\\ude00"', '😀'],
  ['"[[[["', '[[[[']
]

t.test('a value is the same bare and in an object', async (t) => {
  for (const [source, value, quality = 192] of VALUES) {
    for (const payload of [
      source,
      `  ${source}\r\n`,
      `{"value":${source}}`,
      `{"value": ${source} , "x": 1795309323456789123}`
    ]) {
      const [reading, ...others] = decode(payload).readings
      t.ok(Object.is(reading?.value, value), `${payload.slice(0, 60)} is ${String(value).slice(0, 30)}`)
      t.equal(reading?.quality, quality)
      t.strictSame(others, [])
    }
  }
})

t.test('what is bare and no JSON is a text as it came', async (t) => {
  for (const payload of [
    'running',
    ' running\n',
    '+21.5',
    '021.5',
    '21,5',
    '.5',
    '5.',
    '0x1F',
    'True',
    '"open',
    '"a" "b"',
    '21.5 kg',
    '\ufffd',
    'nano',
    '}'
  ]) {
    t.strictSame(outline(decode(payload)), [[TOPIC, payload, 192]], payload)
  }
})

t.test('a byte order mark is no part of the payload', async (t) => {
  t.strictSame(outline(decode('\ufeff21.5')), [[TOPIC, 21.5, 192]])
  t.strictSame(outline(decode('\ufeffrunning')), [[TOPIC, 'running', 192]])
  t.strictSame(outline(decode('\ufeff{"value":1}')), [[TOPIC, 1, 192]])
})

const UNREADABLE: [payload: string, reason: string, detail: RegExp][] = [
  ['{"value":21.5', 'payload_unreadable', /begins like JSON/],
  ['[', 'payload_unreadable', /begins like JSON/],
  ['{value:1}', 'payload_unreadable', /begins like JSON/],
  ['{"value":NaN}', 'payload_unreadable', /begins like JSON/],
  ['{"value":-Infinity}', 'payload_unreadable', /begins like JSON/],
  ['{"value":1} {"value":2}', 'payload_unreadable', /begins like JSON/],
  ['', 'payload_unreadable', /empty/],
  [' \n', 'payload_unreadable', /empty/],
  ['NaN', 'value_unreadable', /"NaN".*finite/],
  ['-Infinity', 'value_unreadable', /finite/],
  ['inf', 'value_unreadable', /finite/],
  ['1e400', 'value_unreadable', /finite/],
  ['{"value":-1e400}', 'value_unreadable', /finite/],
  ['{"value":{}}', 'value_unreadable', /an object; .*allowed/],
  ['{"value":[1]}', 'value_unreadable', /an array; .*allowed/],
  ['{"value":"\\ud800"}', 'value_unreadable', /surrogate/],
  ['"\\udc00x"', 'value_unreadable', /surrogate/],
  ['{}', 'value_missing', /neither value nor values/],
  ['{"Value":1}', 'value_missing', /neither/],
  ['{"__proto__":{"value":1}}', 'value_missing', /neither/],
  ['{"value":1,"values":{"a":1}}', 'value_unreadable', /both/],
  ['{"values":[1,2]}', 'value_unreadable', /values is an array/],
  ['{"values":null}', 'value_unreadable', /values is null/],
  ['{"values":{}}', 'value_missing', /empty/],
  ['{"value":1,"timestamp":"now"}', 'timestamp_unreadable', /timestamp "now".*ISO 8601/],
  ['{"value":1,"timestamp":1e300}', 'timestamp_out_of_range', /1e\+300.*1684/],
  ['{"value":1,"quality":-1}', 'quality_unreadable', /quality is -1; .*32767/],
  ['{"value":1,"quality":32768}', 'quality_unreadable', /32768/],
  ['{"value":1,"quality":192.5}', 'quality_unreadable', /192\.5/],
  ['{"value":1,"quality":"fine"}', 'quality_unreadable', /"fine"/],
  ['{"value":1,"quality":[]}', 'quality_unreadable', /an array/],
  ['{"value":1,"sensor_id":""}', 'sensor_id_unreadable', /sensor_id is ""/],
  ['{"value":1,"sensor_id":{}}', 'sensor_id_unreadable', /an object/],
  ['{"value":1,"sensor_id":1.5}', 'sensor_id_unreadable', /1\.5/],
  ['{"value":1,"sensor_id":"a\\u0000b"}', 'sensor_id_unreadable', /"a\\u0000b" holds a control character/],
  ['{"value":1,"sensor_id":"\\ud800"}', 'sensor_id_unreadable', /surrogate/],
  [`{"value":1,"sensor_id":"${'ä'.repeat(128)}"}`, 'sensor_id_unreadable', /256 bytes/]
]

t.test('what can not be read is one reject with its bytes, its reason and a detail', async (t) => {
  for (const [payload, reason, detail] of UNREADABLE) {
    const { readings, events, rejects } = decode(payload)
    t.strictSame([readings, events, rejects.length], [[], [], 1], payload)
    t.match(
      rejects[0],
      { id: 'id-1', reason, detail, topic: TOPIC, payloadSha256: null, receivedUs: ARRIVAL_US },
      payload
    )
    t.equal(text(rejects[0]?.payload), payload)
    t.equal(rejects[0]?.payloadBytes, Buffer.byteLength(payload))
  }
})

t.test('an empty retained payload clears, and carries nothing', async (t) => {
  t.strictSame(decode('', { retained: true }), { readings: [], events: [], rejects: [] })
  t.strictSame(outline(decode(' ', { retained: true })), ['payload_unreadable'])
  t.strictSame(outline(decode('1', { retained: true })), [[TOPIC, 1, 192]])
})

t.test('bytes that are no UTF-8 are a reject with these bytes', async (t) => {
  for (const bytes of [[0xff], [0x7b, 0xc0, 0xaf, 0x7d], [0xed, 0xa0, 0x80], [0xe2, 0x82]]) {
    const { rejects } = decode(Uint8Array.from(bytes))
    t.equal(rejects[0]?.reason, 'payload_unreadable')
    t.match(rejects[0]?.detail, /UTF-8/)
    t.strictSame([...(rejects[0]?.payload ?? [])], bytes)
  }
})

t.test('a view into a larger buffer is read and kept within its bounds', async (t) => {
  const socket = Buffer.from('xxxx21.5yyyy')
  t.strictSame(outline(decode(new Uint8Array(socket.buffer, socket.byteOffset + 4, 4))), [[TOPIC, 21.5, 192]])
  const pool = Buffer.from('xxxx{"a"}yyyy')
  const [reject] = decode(pool.subarray(4, 9)).rejects
  pool.fill(0)
  t.equal(text(reject?.payload), '{"a"}', 'and it is a copy')
  t.equal(reject?.payload.buffer.byteLength, 5)
})

t.test('qualities are codes, words and booleans', async (t) => {
  const cases: [string, number][] = [
    ['0', 0],
    ['192', 192],
    ['32767', 32767],
    ['"192"', 192],
    ['"good"', 192],
    ['"GOOD"', 192],
    ['" Uncertain "', 64],
    ['"bad"', 0],
    ['true', 192],
    ['false', 0],
    ['null', 192]
  ]
  for (const [source, quality] of cases)
    t.equal(decode(`{"value":1,"quality":${source}}`).readings[0]?.quality, quality, source)
  t.equal(
    decode('{"value":null,"quality":"good"}').readings[0]?.quality,
    192,
    'a given quality holds without a value too'
  )
})

t.test('units and types never cost a reading', async (t) => {
  const cases: [string, string | null][] = [
    ['"bar"', 'bar'],
    ['7', '7'],
    ['true', 'true'],
    ['null', null],
    ['""', null],
    ['[]', null],
    ['{}', null],
    ['" m\\u0000\\n3 "', 'm 3'],
    [`"${'x'.repeat(200)}"`, 'x'.repeat(100)],
    [`"${'x'.repeat(99)}😀"`, 'x'.repeat(99)],
    ['"\\ud800"', '\ufffd']
  ]
  for (const [source, label] of cases) {
    const [reading] = decode(`{"value":1,"unit":${source},"sensor_type":${source}}`).readings
    t.strictSame([reading?.sensor.unit, reading?.sensor.type], [label, label], source)
  }
})

t.test('a sensor id is a text or an integer of at most 255 bytes, the prefix included', async (t) => {
  t.strictSame(outline(decode('{"value":1,"sensor_id":17}')), [['17', 1, 192]])
  t.strictSame(outline(decode('{"value":1,"sensor_id":123456789012345678901}')), [['123456789012345678901', 1, 192]])
  t.strictSame(outline(decode('{"value":1,"sensor_id":null}')), [[TOPIC, 1, 192]])
  const id = 'x'.repeat(255)
  t.strictSame(outline(decode(`{"value":1,"sensor_id":"${id}"}`)), [[id, 1, 192]])
  t.strictSame(outline(decode(`{"value":1,"sensor_id":"${id}"}`, { prefix: 'p' })), ['sensor_id_unreadable'])
  t.strictSame(outline(decode('1', { topic: 'x'.repeat(256) })), ['sensor_id_unreadable'])
  t.strictSame(outline(decode('1', { topic: 'a\u0001b' })), ['sensor_id_unreadable'])
})

t.test('many values take what the object says unless they say it themselves', async (t) => {
  const payload = `{"sensor_id":"p7","ts":1795309323,"quality":"uncertain","unit":"mm","sensor_type":"gauge","values":{
    "a":1, "b":null, "c":{"value":3,"quality":0,"unit":"in","sensor_type":"laser","timestamp":1795309324}, "__proto__":5}}`
  const at = 1_795_309_323_000_000
  t.strictSame(decode(payload, { prefix: 'x/' }).readings, [
    { sensor: { id: 'x/p7/a', type: 'gauge', unit: 'mm' }, timestampUs: at, value: 1, quality: 64 },
    { sensor: { id: 'x/p7/b', type: 'gauge', unit: 'mm' }, timestampUs: at, value: null, quality: 64 },
    { sensor: { id: 'x/p7/c', type: 'laser', unit: 'in' }, timestampUs: at + 1_000_000, value: 3, quality: 0 },
    { sensor: { id: 'x/p7/__proto__', type: 'gauge', unit: 'mm' }, timestampUs: at, value: 5, quality: 64 }
  ])
})

t.test('of many values the bad ones are one reject that holds only them', async (t) => {
  const payload = `{ "ts" : 1795309323 , "values" : {"a":1, "b" : [1, "}"], "c":1e400, "d":{"unit":"mm"}, "":5, "e":"x"} , "k,":"{" }`
  const { readings, rejects } = decode(payload)
  t.strictSame(
    readings.map(({ sensor, value }) => [sensor.id, value]),
    [
      [`${TOPIC}/a`, 1],
      [`${TOPIC}/e`, 'x']
    ]
  )
  t.equal(rejects.length, 1)
  t.equal(rejects[0]?.reason, 'value_unreadable')
  t.match(rejects[0]?.detail, /values "b": .*values "c": .*values "d": .*and 1 more/)
  const kept = text(rejects[0]?.payload)
  t.equal(kept, '{"ts" : 1795309323,"k,":"{","values":{"b" : [1, "}"],"c":1e400,"d":{"unit":"mm"},"":5}}')
  t.strictSame(outline(decode(kept)), ['value_unreadable'], 'and is a payload again')
  const [twice] = decode('{"values":{"a":[]},"values":{"b":1,"b":[]}}').rejects
  t.equal(text(twice?.payload), '{"values":{"b":1,"b":[]}}', 'of a name that stands twice the last counts')
})

t.test('a fault of what all values share rejects the whole message', async (t) => {
  const payload = '{"timestamp":"x","values":{"a":1,"b":2}}'
  const { readings, rejects } = decode(payload)
  t.strictSame(readings, [])
  t.strictSame(
    rejects.map(({ reason, payload }) => [reason, text(payload)]),
    [['timestamp_unreadable', payload]]
  )
})

t.test('each element of an array stands for itself', async (t) => {
  const payload =
    '[{"value":1}, [{"value":2}], {"value":1e400,"n":"],["} ,3,null,{"values":{"a":4,"b":{}}}, {"value":9007199254740993}]'
  const { readings, rejects } = decode(payload)
  t.strictSame(
    readings.map(({ sensor, value }) => [sensor.id, value]),
    [
      [TOPIC, 1],
      [`${TOPIC}/a`, 4],
      [TOPIC, '9007199254740993']
    ]
  )
  t.strictSame(
    rejects.map(({ id, reason, detail, payload }) => [id, reason, detail.slice(0, 9), text(payload)]),
    [
      ['id-1', 'payload_unreadable', 'element 1', '[{"value":2}]'],
      ['id-2', 'value_unreadable', 'element 2', '{"value":1e400,"n":"],["}'],
      ['id-3', 'payload_unreadable', 'element 3', '3'],
      ['id-4', 'payload_unreadable', 'element 4', 'null'],
      ['id-5', 'value_unreadable', 'element 5', '{"values":{"b":{}}}']
    ]
  )
  t.strictSame(decode(' [ ] '), { readings: [], events: [], rejects: [] }, 'and an empty one carries nothing')
})

t.test('an array of more than 10,000 elements is read whole', async (t) => {
  const elements = Array.from({ length: 12_000 }, (_, index) =>
    index % 3 === 0 ? '{"value":[]}' : `{"value":${index}}`
  )
  const { readings, rejects } = decode(`[${elements.join(',')}]`)
  t.equal(readings.length, 8_000)
  t.equal(rejects.length, 4_000)
  t.equal(readings.at(-1)?.value, 11_999)
})

t.test('a reject longer than a record is cut, with the length and the digest of the whole', async (t) => {
  const payload = Buffer.from(`{"value":"${'x'.repeat(200_000)}`)
  const [reject] = decode(payload).rejects
  t.equal(reject?.payload.length, MAX_RECORD_BYTES)
  t.equal(reject?.payloadBytes, payload.length)
  t.equal(reject?.payloadSha256, createHash('sha256').update(payload).digest('hex'))
  const whole = decode(`{${' '.repeat(MAX_RECORD_BYTES - 1)}`).rejects[0]
  t.strictSame(
    [whole?.payload.length, whole?.payloadSha256],
    [MAX_RECORD_BYTES, null],
    'one of just that length is not'
  )
})

t.test('a text longer than a record is a reject, counted in bytes', async (t) => {
  const longest = 'ä'.repeat(MAX_RECORD_BYTES / 2)
  t.equal(decode(longest).readings[0]?.value, longest)
  for (const payload of [`${longest}x`, `{"value":"${longest}x"}`, '9'.repeat(MAX_RECORD_BYTES + 1)]) {
    t.strictSame(outline(decode(payload)), ['record_too_large'])
  }
})

t.test('nesting ends at 32 levels, brackets in texts not counted', async (t) => {
  const nested = (levels: number) => `{"value":1,"x":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`
  t.strictSame(outline(decode(nested(32))), [[TOPIC, 1, 192]])
  t.strictSame(outline(decode(nested(33))), ['payload_too_deep'])
  const brackets = `a\\"${'[{'.repeat(50)}\\\\`
  t.strictSame(outline(decode(`{"x":"${brackets}","value":1}`)), [[TOPIC, 1, 192]])
  t.strictSame(outline(decode(`{"x":"${brackets}","y":${'['.repeat(32)}${']'.repeat(32)}}`)), ['payload_too_deep'])
  for (const bomb of ['['.repeat(200_000), '{"a":'.repeat(40_000), `${'['.repeat(100_000)}${']'.repeat(100_000)}`]) {
    t.strictSame(outline(decode(bomb)), ['payload_too_deep'])
  }
})

t.test('prototype keys reach no prototype', async (t) => {
  decode('{"__proto__":{"value":1,"polluted":1},"constructor":{"prototype":{"polluted":1}},"value":1}')
  decode('{"values":{"__proto__":{"polluted":1},"constructor":1},"x":12345678901234567890}')
  t.notOk('polluted' in {})
  t.strictSame(outline(decode('{"values":{"constructor":1,"toString":2}}')), [
    [`${TOPIC}/constructor`, 1, 192],
    [`${TOPIC}/toString`, 2, 192]
  ])
})

t.test('a detail is short and holds no control character', async (t) => {
  const names = Array.from({ length: 9 }, (_, index) => `"\\u0007\\u202e${index}${'x'.repeat(300)}":[]`)
  for (const payload of [
    `{"values":{${names.join(',')}}}`,
    '{"a\u0007\u2028\u009b',
    '{"value":1,"quality":"\\u0000\\u009b\\u2028\\ud800"}'
  ]) {
    const detail = decode(payload).rejects[0]?.detail ?? ''
    t.ok(detail.length > 10 && detail.length <= 500 && detail.isWellFormed(), detail)
    t.notMatch(detail, /[\p{Cc}\u2028\u2029\u202e]/u)
  }
})

t.test('what nobody foresaw costs the message and not the service', async (t) => {
  let calls = 0
  const decoded = createDecoder({ sensorPrefix: '' })({
    topic: TOPIC,
    payload: Buffer.from('[{"value":1},{}]'),
    retained: false,
    receivedUs: 1,
    newId: () => {
      calls += 1
      if (calls === 1) throw new Error('no entropy')
      return 'id'
    }
  })
  t.strictSame(decoded.readings, [])
  t.match(decoded.rejects, [{ id: 'id', reason: 'payload_unreadable', detail: /no entropy/, payloadBytes: 16 }])
})

t.test('the examples of docs/input.md are true', async (t) => {
  const page = readFileSync(new URL('../../docs/input.md', import.meta.url), 'utf8')
  const blocks = [...page.matchAll(/^```example\n([\s\S]*?)^```$/gm)].flatMap(([, block = '']) =>
    block.trim().split('\n\n')
  )
  t.ok(blocks.length >= 15, `${blocks.length} examples`)
  for (const block of blocks) {
    const [input = '', ...expected] = block.split('\n')
    const [, topic = '', payload = ''] = /^<- (\S+) (.*)$/.exec(input) ?? []
    const { readings, events, rejects } = decode(payload, { topic })
    const at = (timestampUs: number | null) =>
      timestampUs === null || timestampUs === ARRIVAL_US ? 'arrival' : timestampUs
    t.strictSame(
      [
        ...readings.map(({ sensor, value, quality, timestampUs }) => {
          const unit = sensor.unit === null ? '' : ` ${sensor.unit}`
          return `=> ${sensor.id} = ${JSON.stringify(value)}${unit}, quality ${quality}, at ${at(timestampUs)}`
        }),
        ...events.map(({ task, state, timestampUs }) => `=> ${task} ${state} at ${at(timestampUs)}`),
        ...rejects.map(({ reason, payload }) => `=! ${reason} ${text(payload)}`)
      ],
      expected,
      input
    )
  }
})
