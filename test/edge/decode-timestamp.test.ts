import fc from 'fast-check'
import t from 'tap'
import { parseJson } from '../../edge/decode/json.ts'
import { readTimestamp } from '../../edge/decode/timestamp.ts'

/** The timestamp whose JSON source is given. */
function read(source: string): ReturnType<typeof readTimestamp> {
  return readTimestamp(parseJson(source))
}

const BASE_US = 1_795_309_323_000_000

t.test('ISO 8601 with an offset is exact to the microsecond', async (t) => {
  const cases: [string, number][] = [
    ['2026-11-22T01:02:03Z', BASE_US],
    ['2026-11-22t01:02:03z', BASE_US],
    [' 2026-11-22 01:02:03Z ', BASE_US],
    ['2026-11-22 01:02:03 +00:00', BASE_US],
    ['2026-11-22T01:02:03-00:00', BASE_US],
    ['2026-11-22T02:32:03+01:30', BASE_US],
    ['2026-11-22T02:32:03+0130', BASE_US],
    ['2026-11-21T18:02:03-07', BASE_US],
    ['2026-11-22T01:02Z', BASE_US - 3_000_000],
    ['2026-11-22T01:02:03.4Z', BASE_US + 400_000],
    ['2026-11-22T01:02:03,456Z', BASE_US + 456_000],
    ['2026-11-22T01:02:03.000001Z', BASE_US + 1],
    ['2026-11-22T01:02:03.456789Z', BASE_US + 456_789],
    ['2026-11-22T01:02:03.456789999Z', BASE_US + 456_789],
    ['2026-11-22T01:02:03.9999999999999999+00:00', BASE_US + 999_999],
    ['+002026-11-22T01:02:03Z', BASE_US],
    ['1970-01-01T00:00:00Z', 0],
    ['1969-12-31T23:59:59.999999Z', -1],
    ['2000-02-29T00:00:00Z', 951_782_400_000_000],
    ['2016-12-31T23:59:60Z', 1_483_228_800_000_000],
    ['2017-01-01T00:59:60.5+01:00', 1_483_228_800_500_000],
    ['2255-06-05T23:47:34.740991Z', Number.MAX_SAFE_INTEGER],
    ['1684-07-28T00:12:25.259009Z', -Number.MAX_SAFE_INTEGER]
  ]
  for (const [text, us] of cases)
    t.ok(Object.is(readTimestamp(text), us), `${text} gives ${us}, not ${JSON.stringify(readTimestamp(text))}`)
})

t.test('epoch times are told apart by size, as numbers and as texts', async (t) => {
  const cases: [string, number][] = [
    ['0', 0],
    ['-0', 0],
    ['1795309323', BASE_US],
    ['1795309323.5', BASE_US + 500_000],
    ['1795309323.456789', BASE_US + 456_789],
    ['-1.5', -1_500_000],
    ['1795309323456', BASE_US + 456_000],
    ['1795309323456.789', BASE_US + 456_789],
    ['1795309323456789', BASE_US + 456_789],
    ['1795309323456789123', BASE_US + 456_789],
    ['1795309323456789999', BASE_US + 456_789],
    ['-1795309323456789001', -BASE_US - 456_790],
    ['9000000000', 9_000_000_000_000_000],
    ['100000000000', 100_000_000_000_000],
    ['99999999999999', 'out'],
    ['100000000000000', 100_000_000_000_000],
    ['100000000000000000', 100_000_000_000_000],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['9007199254740991999', Number.MAX_SAFE_INTEGER],
    ['-9007199254740991', -Number.MAX_SAFE_INTEGER]
  ].map(([source, us]) => [String(source), typeof us === 'number' ? us : Number.NaN])
  for (const [source, us] of cases) {
    for (const given of [source, `"${source}"`, `" ${source} "`]) {
      const result = read(given)
      if (Number.isNaN(us)) t.match(result, { reason: 'timestamp_out_of_range' }, given)
      else t.ok(Object.is(result, us), `${given} gives ${us}, not ${JSON.stringify(result)}`)
    }
  }
  t.equal(read('"+1795309323"'), BASE_US)
  t.equal(read('1.795309323e9'), BASE_US)
})

t.test('an absent time is null', async (t) => {
  t.equal(readTimestamp(undefined), null)
  t.equal(readTimestamp(null), null)
})

t.test('a time without offset is a fault that says so', async (t) => {
  for (const text of ['2026-11-22T01:02:03', '2026-11-22 01:02:03.456', '2026-11-22T01:02']) {
    t.match(readTimestamp(text), { reason: 'timestamp_unreadable', detail: /no offset.*Z or with \+01:00/ }, text)
  }
})

t.test('what is no time is a fault', async (t) => {
  const texts = [
    '',
    ' ',
    'now',
    '2026-11-22',
    '2026-11-22Z',
    '2026-13-01T00:00:00Z',
    '2026-00-01T00:00:00Z',
    '2026-11-31T00:00:00Z',
    '2026-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '2026-11-00T00:00:00Z',
    '2026-11-22T24:00:00Z',
    '2026-11-22T01:60:00Z',
    '2026-11-22T01:02:61Z',
    '2026-11-22T01:02:60Z',
    '2026-11-22T23:59:60+01:00',
    '2026-11-22T01:02:03.Z',
    '2026-11-22T01:02:03+24:00',
    '2026-11-22T01:02:03+01:60',
    '2026-11-22T01:02:03+1',
    '2026-11-22T01:02:03+01:',
    '2026-11-22T01:02:03Z+01:00',
    '2026-11-22T01:02:03ZZ',
    '2026-11-22T01:02:03  Z',
    '2026/11/22T01:02:03Z',
    '26-11-22T01:02:03Z',
    '2026-11-22T1:02:03Z',
    '2026-11-22T01.02.03Z',
    '0x10',
    '1e9',
    '1_000',
    '12.',
    '.5',
    '--5',
    'NaN',
    '٢٠٢٦-11-22T01:02:03Z',
    `2026-11-22T01:02:03.${'0'.repeat(99)}Z`
  ]
  for (const text of texts)
    t.match(readTimestamp(text), { reason: 'timestamp_unreadable', detail: /^timestamp "/ }, text)
  for (const source of [true, [], {}, [1]]) t.match(readTimestamp(source), { reason: 'timestamp_unreadable' })
})

t.test('a time that no reading can carry is a fault of its own', async (t) => {
  for (const source of [
    '"2255-06-05T23:47:34.740992Z"',
    '"1684-07-28T00:12:25.259008Z"',
    '"9999-12-31T23:59:59Z"',
    '"0001-01-01T00:00:00Z"',
    '"+292278-08-17T07:12:55Z"',
    '"-000001-01-01T00:00:00Z"',
    '9007199254740992',
    '9007199254740993',
    '9007199254740992000',
    '-9007199254740991001',
    '9223372036854775807',
    `1${'0'.repeat(60)}`,
    '1e300',
    '1e400',
    '-1e400',
    '9007199255'
  ]) {
    t.match(read(source), { reason: 'timestamp_out_of_range', detail: /1684-07-28 to 2255-06-05/ }, source)
  }
})

const us = fc.bigInt({ min: -BigInt(Number.MAX_SAFE_INTEGER), max: BigInt(Number.MAX_SAFE_INTEGER) })

/** Seconds below, and the rest: both sides of 1970 alike. */
function floorDivide(dividend: bigint, divisor: bigint): [bigint, bigint] {
  const rest = ((dividend % divisor) + divisor) % divisor
  return [(dividend - rest) / divisor, rest]
}

t.test('every carried time comes back from ISO 8601, whatever its offset', async () => {
  const offset = fc.integer({ min: -1439, max: 1439 })
  const tail = fc.stringMatching(/^\d{0,9}$/)
  fc.assert(
    fc.property(us, offset, tail, (expectedUs, offsetMinutes, digits) => {
      const [seconds, fractionUs] = floorDivide(expectedUs, 1_000_000n)
      const local = new Date((Number(seconds) + offsetMinutes * 60) * 1000).toISOString().slice(0, 19)
      const size = Math.abs(offsetMinutes)
      const [hours, minutes] = [Math.floor(size / 60), size % 60].map((part) => String(part).padStart(2, '0'))
      const text = `${local}.${String(fractionUs).padStart(6, '0')}${digits}${offsetMinutes < 0 ? '-' : '+'}${hours}:${minutes}`
      return readTimestamp(text) === Number(expectedUs)
    }),
    { numRuns: 10_000 }
  )
})

t.test('every carried time comes back from epoch nanoseconds and microseconds by BigInt arithmetic', async () => {
  const nanoseconds = fc.bigInt({ min: 100_000_000_000_000_000n, max: 9_007_199_254_740_991_999n })
  fc.assert(
    fc.property(nanoseconds, fc.boolean(), (size, isNegative) => {
      const ns = isNegative ? -size : size
      const [expectedUs] = floorDivide(ns, 1000n)
      if (expectedUs < -BigInt(Number.MAX_SAFE_INTEGER)) return true
      return read(String(ns)) === Number(expectedUs) && read(`"${ns}"`) === Number(expectedUs)
    }),
    { numRuns: 5_000 }
  )
  const microseconds = fc.bigInt({ min: 100_000_000_000_000n, max: BigInt(Number.MAX_SAFE_INTEGER) })
  fc.assert(
    fc.property(
      microseconds,
      (value) => read(String(value)) === Number(value) && read(`"-${value}"`) === -Number(value)
    ),
    { numRuns: 5_000 }
  )
})

t.test('seconds and milliseconds with a fraction give the microsecond that was written', async () => {
  const untilYear2106 = fc.bigInt({ min: -4_294_967_295_999_999n, max: 4_294_967_295_999_999n })
  const decimal = (value: bigint, digits: number) => {
    const size = String(value < 0n ? -value : value).padStart(digits + 1, '0')
    return `${value < 0n ? '-' : ''}${size.slice(0, -digits)}.${size.slice(-digits)}`
  }
  fc.assert(
    fc.property(untilYear2106, (value) => {
      const seconds = decimal(value, 6)
      if (read(seconds) !== Number(value) + 0 || read(`"${seconds}"`) !== Number(value) + 0) return false
      const isMilliseconds = value >= 100_000_000_000_000n || value <= -100_000_000_000_000n
      return !isMilliseconds || read(decimal(value, 3)) === Number(value)
    }),
    { numRuns: 10_000 }
  )
})
