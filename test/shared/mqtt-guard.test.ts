import { connect } from 'node:net'
import type { Socket } from 'node:net'
import fc from 'fast-check'
import mqtt from 'mqtt'
import { generate } from 'mqtt-packet'
import t from 'tap'
import type { Test } from 'tap'
import { createFrameScanner, createFrameSplitter } from '../../shared/mqtt/framing.ts'
import { guardSocket } from '../../shared/mqtt/guard.ts'
import { createReadGate } from '../../shared/mqtt/read-gate.ts'
import type { ReadGate } from '../../shared/mqtt/read-gate.ts'
import { startAedes } from '../helpers/aedes-broker.ts'
import { waitFor } from '../helpers/wait-for.ts'

async function startGuarded(t: Test, limits: { connectTimeoutMs?: number } = {}) {
  const refused: string[] = []
  const messages: Buffer[] = []
  const sockets: Socket[] = []
  const broker = await startAedes(t, {
    guard(socket) {
      sockets.push(socket)
      return guardSocket(socket, { ...limits, onRefused: (reason) => refused.push(reason) })
    }
  })
  broker.broker.on('publish', (packet, client) => {
    if (client !== null) messages.push(Buffer.from(packet.payload))
  })
  return { ...broker, refused, messages, sockets }
}

type Attacker = { socket: Socket; received: Buffer[]; isClosed(): boolean }

function attack(t: Test, port: number): Attacker {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  const received: Buffer[] = []
  let closed = false
  socket.on('data', (chunk) => received.push(chunk))
  socket.on('error', () => {})
  socket.on('close', () => (closed = true))
  t.teardown(() => socket.destroy())
  return { socket, received, isClosed: () => closed }
}

const connectPacket = generate({
  cmd: 'connect',
  clientId: 'a',
  protocolId: 'MQTT',
  protocolVersion: 4,
  clean: true,
  keepalive: 0
})
const publishPacket = (payload: string | Buffer) =>
  generate({ cmd: 'publish', topic: 'plant/x', payload, qos: 0, dup: false, retain: false })

/** The length field of an MQTT packet. */
function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  do {
    bytes.push(rest >= 128 ? (rest % 128) | 0x80 : rest)
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return bytes
}

t.test('a frame scanner finds every packet, however the stream is cut', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.nat(5), fc.nat(300), fc.nat(20_000)), { minLength: 1, maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 20 }),
      (sizes, cuts) => {
        const packets = sizes.map((size, i) =>
          Buffer.from([(1 + (i % 14)) << 4, ...varint(size), ...Buffer.alloc(size, i)])
        )
        const stream = Buffer.concat(packets)
        const frames: Buffer[] = []
        const splitter = createFrameSplitter({
          maxPacketBytes: 100_000,
          onFrame: (bytes, start, end) => frames.push(bytes.subarray(start, end))
        })
        let at = 0
        for (let i = 0; at < stream.length; i += 1) {
          const end = at + (cuts[i % cuts.length] ?? 1)
          if (splitter.push(stream.subarray(at, end)) !== null) return false
          at = end
        }
        return (
          frames.length === packets.length && frames.every((frame, i) => frame.equals(packets[i] ?? Buffer.alloc(0)))
        )
      }
    )
  )
  const headers: [number, number][] = []
  const scanner = createFrameScanner({
    onHeader(type, bytes) {
      headers.push([type, bytes])
      return null
    },
    onEnd() {}
  })
  t.equal(scanner.scan(Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f])), null)
  t.same(headers, [[1, 268_435_460]])
  t.end()
})

t.test('good clients notice nothing of the guard', async (t) => {
  const { url, messages, refused } = await startGuarded(t)
  const client = mqtt.connect(url)
  t.teardown(() => client.endAsync(true))
  const sizes = [0, 1, 511, 512, 4_096, 100_000, 262_000]
  for (const qos of [0, 1, 2] as const) {
    for (const size of sizes) await client.publishAsync('plant/x', Buffer.alloc(size, qos), { qos })
  }
  await waitFor('all messages', () => messages.length === sizes.length * 3)
  t.same(
    messages.map((message) => message.length),
    [...sizes, ...sizes, ...sizes]
  )
  t.same(refused, [])
})

t.test('what no good client sends closes the connection, with a reason', async (t) => {
  const cases: [string, Buffer, RegExp][] = [
    ['a packet other than CONNECT first', publishPacket('x'), /first packet is not CONNECT/],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n'), /first packet is not CONNECT/],
    ['a CONNECT over 4 kB', Buffer.from([0x10, ...varint(4_096)]), /4099 bytes is over the limit of 4096/],
    ['a CONNECT of 256 MB', Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]), /268435460 bytes is over/],
    ['a length of five bytes', Buffer.from([0x10, 0x80, 0x80, 0x80, 0x80]), /more than four bytes/],
    [
      'a packet over 256 kB',
      Buffer.concat([connectPacket, Buffer.from([0x30, ...varint(262_144)])]),
      /over the limit of 262144/
    ],
    [
      '256 MB after CONNECT',
      Buffer.concat([connectPacket, Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f])]),
      /268435460 bytes is over/
    ],
    [
      'a five-byte length after a good packet',
      Buffer.concat([connectPacket, publishPacket('x'), Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff])]),
      /more than four bytes/
    ]
  ]
  const { port, refused } = await startGuarded(t)
  for (const [i, [what, bytes, reason]] of cases.entries()) {
    const attacker = attack(t, port)
    attacker.socket.write(bytes)
    await waitFor(`the end of ${what}`, () => attacker.isClosed() && refused.length === i + 1)
    t.match(refused[i], reason, what)
  }
})

t.test('a CONNECT that does not come, or comes too slowly, closes the connection; a greeted one stays', async (t) => {
  const { port, refused } = await startGuarded(t, { connectTimeoutMs: 100 })
  const silent = attack(t, port)
  const slow = attack(t, port)
  const good = attack(t, port)
  good.socket.write(connectPacket)
  let sent = 0
  const drip = setInterval(() => {
    slow.socket.write(connectPacket.subarray(sent, sent + 1))
    sent += 1
  }, 30)
  t.teardown(() => clearInterval(drip))
  await waitFor('the end of both', () => silent.isClosed() && slow.isClosed())
  t.same(refused, Array(2).fill('no CONNECT within 100 ms'))
  t.notOk(good.isClosed())
})

t.test('packets that come byte by byte, or many in one chunk, all reach the broker', async (t) => {
  const { port, messages } = await startGuarded(t)
  const slow = attack(t, port)
  for (const byte of Buffer.concat([connectPacket, publishPacket('drop by drop'), publishPacket('again')])) {
    slow.socket.write(Buffer.of(byte))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await waitFor('both', () => messages.length === 2)
  const fast = attack(t, port)
  fast.socket.write(connectPacket)
  await waitFor('CONNACK', () => fast.received.length > 0)
  fast.socket.write(Buffer.concat(Array.from({ length: 1_000 }, (_, i) => publishPacket(`${i}`))))
  await waitFor('all', () => messages.length === 1_002)
  t.same(messages.map(String), ['drop by drop', 'again', ...Array.from({ length: 1_000 }, (_, i) => `${i}`)])
})

t.test('crumbs of a large packet are swept together, and none is lost', async (t) => {
  const { port, sockets, messages } = await startGuarded(t)
  const payload = Buffer.from(Array.from({ length: 20_000 }, (_, i) => i % 251))
  const sizes: number[] = []
  const { socket } = attack(t, port)
  socket.write(connectPacket)
  const served = await waitFor('the connection', () => sockets[0])
  served.on('readable', () => sizes.push(served.readableLength))
  const bytes = publishPacket(payload)
  for (let at = 0; at < bytes.length; at += 3) {
    socket.write(bytes.subarray(at, at + 3))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await waitFor('the message', () => messages.length === 1)
  t.same(messages[0], payload)
  t.ok(sizes.length <= 40, `${sizes.length} reads for ${Math.ceil(bytes.length / 3)} crumbs`)
})

t.test('random bytes end a connection at most, and the broker goes on', async (t) => {
  const { port, url, messages } = await startGuarded(t, { connectTimeoutMs: 1_000 })
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.boolean(), async (bytes, greeted) => {
      const attacker = attack(t, port)
      if (greeted) attacker.socket.write(connectPacket)
      attacker.socket.end(bytes)
      await waitFor('the end', () => attacker.isClosed())
    }),
    { numRuns: 100, seed: 1 }
  )
  const client = mqtt.connect(url)
  t.teardown(() => client.endAsync(true))
  await client.publishAsync('plant/x', 'still here', { qos: 1 })
  t.equal(String(messages.at(-1)), 'still here')
})

t.test('announcing gigabytes takes no memory', async (t) => {
  const { port, refused } = await startGuarded(t)
  const before = process.memoryUsage().rss
  const block = Buffer.alloc(65_536)
  const attackers = Array.from({ length: 20 }, () => attack(t, port))
  for (const { socket } of attackers) {
    socket.write(Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]))
    for (let i = 0; i < 64; i += 1) socket.write(block)
  }
  await waitFor('all to be closed', () => refused.length === 20 && attackers.every(({ isClosed }) => isClosed()))
  const riseBytes = process.memoryUsage().rss - before
  t.ok(riseBytes < 20e6, `rose by ${riseBytes} bytes`)
})

t.test('a shut gate holds a publisher up, guarded or not, and an open one lets everything through', async (t) => {
  for (const sizeBytes of [100, 10_000, 70_000]) {
    const held: (() => void)[] = []
    const gates: ReadGate[] = []
    const broker = await startAedes(t, {
      guard(socket) {
        gates.push(createReadGate(socket))
        return guardSocket(socket, { onRefused: (reason) => t.fail(reason) })
      }
    })
    let taken = 0
    broker.broker.authorizePublish = (_client, _packet, done) => {
      taken += 1
      held.push(() => done(null))
      if (held.length >= 3) gates[0]?.shut()
    }
    const { socket, received } = attack(t, broker.port)
    socket.write(connectPacket)
    await waitFor('CONNACK', () => received.length > 0)
    const count = Math.ceil(20e6 / sizeBytes)
    const packet = publishPacket(Buffer.alloc(sizeBytes))
    for (let i = 0; i < count; i += 1) socket.write(packet)
    let before = 0
    await waitFor('a full pipe', () => {
      const still = taken > 0 && taken === before && socket.writableLength > 1_000_000
      before = taken
      return still
    })
    t.ok(taken * sizeBytes <= 3 * 70_000, `${taken} of ${count} were taken`)
    const pump = setInterval(() => {
      for (const done of held.splice(0)) done()
      gates[0]?.open()
    })
    await waitFor('the rest', () => taken === count, { timeoutMs: 20_000 }).finally(() => clearInterval(pump))
  }
})
