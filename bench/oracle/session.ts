// One MQTT 3.1.1 client of the oracle, on a raw socket, so that nothing stands between what it sent and what it knows.
//
// Guarantees: a message keeps its packet id and its bytes until it is acknowledged; after a lost connection everything
// unacknowledged is sent again in the first order, with DUP; a QoS 2 message that had its PUBREC is only released again.
// It comes back by itself as often as it must.
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { generate, parser } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'

export type Publish = { id: string; topic: string; payload: Buffer; qos: 1 | 2 }

export type Session = {
  /** Free places in flight; 0 while it isn't connected. */
  room(): number
  publish(message: Publish): void
  inFlight(): number
  close(): void
}

const RETRY_MS = 25
const MAX_PACKET_ID = 65_535

type Pending = { message: Publish; released: boolean }

export function openSession(options: {
  host: string
  port: number
  clientId: string
  maxInFlight: number
  onSent(message: Publish, again: boolean): void
  /** PUBACK, or the first PUBREC. `fresh`: the first on this connection. */
  onAccepted(message: Publish, fresh: boolean): void
}): Session {
  const pending = new Map<number, Pending>()
  let socket: Socket | null = null
  let ready = false
  let fresh = true
  let closed = false
  let lastPacketId = 0
  let timer: NodeJS.Timeout | null = null

  function open(): void {
    const opened = connect({ host: options.host, port: options.port, noDelay: true })
    socket = opened
    const parsing = parser({ protocolVersion: 4 })
    parsing.on('packet', (packet) => onPacket(packet))
    parsing.on('error', () => opened.destroy())
    opened.on('connect', () =>
      opened.write(
        generate({
          cmd: 'connect',
          protocolId: 'MQTT',
          protocolVersion: 4,
          clean: false,
          clientId: options.clientId,
          keepalive: 0
        })
      )
    )
    opened.on('data', (data: Buffer) => void parsing.parse(data))
    opened.on('error', () => undefined)
    opened.on('close', () => {
      if (socket !== opened) return
      socket = null
      ready = false
      if (!closed) timer = setTimeout(open, RETRY_MS)
    })
  }

  function write(packet: Packet): void {
    socket?.write(generate(packet))
  }

  function send(packetId: number, { topic, payload, qos }: Publish, dup: boolean): void {
    write({ cmd: 'publish', messageId: packetId, topic, payload, qos, dup, retain: false })
  }

  function onConnected(): void {
    for (const [packetId, { message, released }] of pending) {
      if (released) {
        write({ cmd: 'pubrel', messageId: packetId })
        continue
      }
      options.onSent(message, true)
      send(packetId, message, true)
    }
    ready = true
    fresh = true
  }

  function accept({ message }: Pending): void {
    options.onAccepted(message, fresh)
    fresh = false
  }

  function onPacket(packet: Packet): void {
    if (packet.cmd === 'connack') {
      if (packet.returnCode === 0) onConnected()
      else socket?.destroy()
      return
    }
    const packetId = packet.messageId ?? 0
    const entry = pending.get(packetId)
    if (entry === undefined) return
    switch (packet.cmd) {
      case 'puback':
        pending.delete(packetId)
        return accept(entry)
      case 'pubrec':
        if (!entry.released) accept(entry)
        entry.released = true
        return write({ cmd: 'pubrel', messageId: packetId })
      case 'pubcomp':
        if (entry.released) pending.delete(packetId)
    }
  }

  function nextPacketId(): number {
    do lastPacketId = lastPacketId === MAX_PACKET_ID ? 1 : lastPacketId + 1
    while (pending.has(lastPacketId))
    return lastPacketId
  }

  open()
  return {
    room: () => (ready ? options.maxInFlight - pending.size : 0),
    inFlight: () => pending.size,
    publish(message) {
      const packetId = nextPacketId()
      pending.set(packetId, { message, released: false })
      options.onSent(message, false)
      send(packetId, message, false)
    },
    close() {
      closed = true
      if (timer !== null) clearTimeout(timer)
      socket?.destroy()
    }
  }
}
