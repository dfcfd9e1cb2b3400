import fc from 'fast-check'
import { generate, parser } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import t from 'tap'
import { deliveryOf, readDelivery } from '../../shared/mqtt/delivery.ts'

const AROUND = Buffer.from('between other packets')

function versionOf(is5: boolean): 4 | 5 {
  return is5 ? 5 : 4
}

function readAlone(packet: Buffer, protocolVersion: 4 | 5) {
  const bytes = Buffer.concat([AROUND, packet, AROUND])
  return readDelivery(bytes, AROUND.length, AROUND.length + packet.length, protocolVersion)
}

/** What the codec reads; null for an error or another packet. */
function readByCodec(packet: Buffer, protocolVersion: 4 | 5) {
  const codec = parser({ protocolVersion })
  const read: Packet[] = []
  codec.on('packet', (one) => void read.push(one))
  codec.on('error', () => undefined)
  codec.parse(packet)
  const [first] = read
  return first?.cmd === 'publish' ? deliveryOf(first) : null
}

t.test('a PUBLISH without properties is read as the codec reads it', (t) => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }).filter((topic) => !/[+#]/.test(topic)),
      fc.uint8Array({ maxLength: 20_000 }),
      fc.constantFrom<0 | 1 | 2>(0, 1, 2),
      fc.boolean(),
      fc.boolean(),
      fc.integer({ min: 1, max: 65_535 }),
      fc.boolean(),
      (topic, payload, qos, retain, dup, messageId, is5) => {
        const protocolVersion = versionOf(is5)
        const packet = generate(
          { cmd: 'publish', topic, payload: Buffer.from(payload), qos, retain, dup: dup && qos > 0, messageId },
          { protocolVersion }
        )
        const expected = readByCodec(packet, protocolVersion)
        const read = readAlone(packet, protocolVersion)
        if (expected === null || read === null) return false
        return (
          Buffer.from(expected.payload).equals(read.payload) &&
          JSON.stringify({ ...expected, payload: null }) === JSON.stringify({ ...read, payload: null })
        )
      }
    )
  )
  t.end()
})

t.test('a PUBLISH with properties is left to the codec', (t) => {
  const packet = generate(
    {
      cmd: 'publish',
      topic: 'plant/a',
      payload: Buffer.from('1'),
      qos: 1,
      retain: false,
      dup: false,
      messageId: 7,
      properties: { contentType: 'text/plain' }
    },
    { protocolVersion: 5 }
  )
  t.equal(readAlone(packet, 5), null)
  t.equal(readByCodec(packet, 5)?.topic, 'plant/a')
  t.end()
})

t.test('bytes that the codec refuses, cut or changed, are never read as a message', (t) => {
  const whole = generate(
    { cmd: 'publish', topic: 'plant/a', payload: Buffer.from('12'), qos: 1, retain: false, dup: false, messageId: 7 },
    { protocolVersion: 4 }
  )
  for (const is5 of [false, true]) {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 12 }), fc.uint8Array({ maxLength: 3 }), (bodyBytes, tail) => {
        const body = Buffer.concat([whole.subarray(2, 2 + bodyBytes), tail])
        const packet = Buffer.concat([Buffer.from([whole[0] ?? 0, body.length]), body])
        return readAlone(packet, versionOf(is5)) === null || readByCodec(packet, versionOf(is5)) !== null
      })
    )
  }
  t.equal(readAlone(Buffer.from([0x36, 5, 0, 1, 97, 0, 7]), 4), null, 'a QoS of 3')
  t.equal(readAlone(Buffer.from([0x40, 2, 0, 7]), 4), null, 'another packet')
  t.end()
})
