// A publisher without a client library: packets are written as bytes, acknowledgements counted as they come. It costs a
// tenth of a real client, so that the broker is what is measured.
import { connect } from 'node:net'
import { generate } from 'mqtt-packet'

export type RawClient = {
  /** Written in one go with `end`. */
  publish(topic: string, payload: string | Uint8Array): void
  flush(): void
  inFlight(): number
  close(): void
}

const MAX_PACKET_ID = 65_535
const CONNACK = 2
const PUBACK = 4

/** Resolves when the broker took the connection; QoS 1 throughout. `onAck` gets the time noted at `publish`, ms. */
export function openRawClient(options: {
  port: number
  clientId: string
  onAck: (sentMs: number) => void
  clockMs: () => number
  onLost: (error: Error) => void
}): Promise<RawClient> {
  const socket = connect({ host: '127.0.0.1', port: options.port, noDelay: true })
  const sentMs = new Float64Array(MAX_PACKET_ID + 1)
  let chunks: Buffer[] = []
  let lastId = 0
  let inFlight = 0
  let closed = false
  let rest: Buffer = Buffer.alloc(0)

  const client: RawClient = {
    publish(topic, payload) {
      if (inFlight >= MAX_PACKET_ID) throw new Error('65535 messages wait for their acknowledgement')
      lastId = (lastId % MAX_PACKET_ID) + 1
      sentMs[lastId] = options.clockMs()
      inFlight += 1
      const body = typeof payload === 'string' ? payload : Buffer.from(payload)
      chunks.push(
        generate({ cmd: 'publish', topic, payload: body, qos: 1, messageId: lastId, dup: false, retain: false })
      )
    },
    flush() {
      if (chunks.length === 0) return
      socket.write(chunks.length === 1 ? (chunks[0] ?? rest) : Buffer.concat(chunks))
      chunks = []
    },
    inFlight: () => inFlight,
    close() {
      closed = true
      socket.destroy()
    }
  }

  return new Promise((resolve, reject) => {
    socket.on('error', (error) => {
      reject(error)
      options.onLost(error)
    })
    socket.on('close', () => {
      if (!closed) options.onLost(new Error('the broker closed the connection'))
    })
    socket.on('data', (data: Buffer) => {
      const bytes = rest.length === 0 ? data : Buffer.concat([rest, data])
      let at = 0
      // Only CONNACK and PUBACK come, of four bytes each.
      for (; at + 4 <= bytes.length; at += 4) {
        const type = (bytes[at] ?? 0) >> 4
        if (type === CONNACK && bytes[at + 3] === 0) resolve(client)
        else if (type === PUBACK) {
          inFlight -= 1
          options.onAck(sentMs[bytes.readUInt16BE(at + 2)] ?? 0)
        } else socket.destroy(new Error(`the broker sent a packet of type ${type}`))
      }
      rest = bytes.subarray(at)
    })
    socket.write(
      generate({
        cmd: 'connect',
        clientId: options.clientId,
        clean: true,
        keepalive: 60,
        protocolId: 'MQTT',
        protocolVersion: 4
      })
    )
  })
}
