// The guard in front of an embedded broker: it closes a connection whose packets can't be meant well, before their bytes
// are kept. Refused are: a packet over `maxPacketBytes`; a CONNECT over `maxConnectBytes`; a length of more than four
// bytes; a first packet that isn't CONNECT; a CONNECT that isn't whole within `connectTimeoutMs` (slow loris).
// It stands in the way of the bytes from the socket into its read buffer and looks at fixed headers only: nothing is
// piped, and backpressure is the socket's own. Nothing is copied either, but for a packet that comes in crumbs: these are
// swept together, since a buffer object for each byte would take a hundred times the packet's size.
// Whether the packets make sense inside is the broker's to judge.
import type { Socket } from 'node:net'
import { createFrameScanner } from './framing.ts'

export type GuardOptions = {
  maxPacketBytes?: number
  maxConnectBytes?: number
  connectTimeoutMs?: number
  /** Called once, when the socket has been destroyed for this reason. */
  onRefused(reason: string): void
}

const MAX_PACKET_BYTES = 262_144
const MAX_CONNECT_BYTES = 4_096
const CONNECT_TIMEOUT_MS = 10_000
const CONNECT = 1
/** A chunk below this size that ends no packet is a crumb. */
const CRUMB_BYTES = 512
const SWEPT_BYTES = 4_096

/**
 * Guards a socket, plain or TLS, and gives it back: `broker.handle(guardSocket(socket, …))`. To be called in the turn of
 * the `connection` event, before anything is read.
 */
export function guardSocket(socket: Socket, options: GuardOptions): Socket {
  const maxPacketBytes = options.maxPacketBytes ?? MAX_PACKET_BYTES
  const maxConnectBytes = options.maxConnectBytes ?? MAX_CONNECT_BYTES
  const connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS
  const push = socket.push
  let greeted = false
  let refused = false
  let endsPacket = false
  let swept: Buffer | null = null
  let sweptBytes = 0

  const timer = setTimeout(() => refuse(`no CONNECT within ${connectTimeoutMs} ms`), connectTimeoutMs)
  socket.once('close', () => clearTimeout(timer))

  const scanner = createFrameScanner({
    onHeader(type, packetBytes) {
      if (!greeted && type !== CONNECT) return 'the first packet is not CONNECT'
      const limitBytes = greeted ? maxPacketBytes : maxConnectBytes
      if (packetBytes <= limitBytes) return null
      return `a packet of ${packetBytes} bytes is over the limit of ${limitBytes}`
    },
    onEnd() {
      endsPacket = true
      if (greeted) return
      greeted = true
      clearTimeout(timer)
    }
  })

  function refuse(reason: string): void {
    if (refused) return
    refused = true
    clearTimeout(timer)
    socket.destroy(new Error(reason))
    options.onRefused(reason)
  }

  /** What to pass on now; null: the crumb was kept. */
  function sweep(chunk: Uint8Array): Uint8Array | null {
    if (!endsPacket && chunk.length < CRUMB_BYTES) {
      swept ??= Buffer.allocUnsafe(SWEPT_BYTES)
      swept.set(chunk, sweptBytes)
      sweptBytes += chunk.length
      if (sweptBytes <= SWEPT_BYTES - CRUMB_BYTES) return null
      chunk = swept.subarray(0, sweptBytes)
    } else if (swept !== null) {
      chunk = Buffer.concat([swept.subarray(0, sweptBytes), chunk])
    }
    swept = null
    sweptBytes = 0
    return chunk
  }

  socket.push = (chunk: unknown, encoding?: BufferEncoding) => {
    if (refused) return false
    if (!(chunk instanceof Uint8Array)) return push.call(socket, chunk, encoding)
    endsPacket = false
    const refusal = scanner.scan(chunk)
    if (refusal !== null) {
      refuse(refusal)
      return false
    }
    const passed = sweep(chunk)
    return passed === null || push.call(socket, passed)
  }
  return socket
}
