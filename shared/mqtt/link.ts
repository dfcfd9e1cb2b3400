// One network connection to a broker: socket, TLS, framing, codec, keep-alive. Knows nothing of sessions.
// States: opening → open → closed. `onClose` is called exactly once, with the first reason; nothing is called after it.
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Socket } from 'node:net'
import { generate, parser } from 'mqtt-packet'
import type { IPublishPacket, Packet } from 'mqtt-packet'
import { codeOf, messageOf } from '../errors.ts'
import type { BrokerAddress } from './address.ts'
import { deliveryOf, readDelivery } from './delivery.ts'
import type { Delivery } from './delivery.ts'
import { createFrameSplitter } from './framing.ts'

export type TlsOptions = {
  ca?: string | Buffer
  cert?: string | Buffer
  key?: string | Buffer
  servername?: string
  rejectUnauthorized?: boolean
}

/** All but PUBLISH. */
export type OtherPacket = Exclude<Packet, IPublishPacket>

export type LinkOptions = {
  address: BrokerAddress
  tls: TlsOptions
  protocolVersion: 4 | 5
  maxPacketBytes: number
  onOpen(): void
  /** A PUBLISH. */
  onDelivery(delivery: Delivery): void
  onPacket(packet: OtherPacket): void
  onClose(reason: string): void
}

export type Link = {
  /** Writes a packet; `onWritten` follows when the operating system has it, and doesn't when the link closes before. */
  send(packet: Packet, onWritten?: () => void): void
  /** Writes bytes that are whole packets. */
  sendBytes(bytes: Uint8Array): void
  /** Pings when nothing moves for half of `keepAliveMs`; closes when the peer stays silent, within 1.5 × `keepAliveMs`. */
  keepAlive(keepAliveMs: number): void
  /** Stops and resumes reading; while it is stopped the peer's silence proves nothing and isn't held against it. */
  pause(): void
  resume(): void
  /** Writes what is left and closes; at once when that takes longer than `deadlineMs`. */
  end(reason: string, deadlineMs: number): void
  destroy(reason: string): void
}

/** The reason when the peer ended the connection without giving one. */
export const ENDED_BY_PEER = 'the broker closed the connection'

/** How often the keep-alive is looked at in one keep-alive period. */
const TICKS_PER_KEEP_ALIVE = 4
const PINGREQ = Uint8Array.of(0xc0, 0)

export function openLink(options: LinkOptions): Link {
  const codecOptions = { protocolVersion: options.protocolVersion }
  const codec = parser(codecOptions)
  const socket = openSocket(options.address, options.tls)
  let closed = false
  let corked = false
  let paused = false
  let lastReceivedMs = performance.now()
  let lastSentMs = lastReceivedMs
  let pingSentMs: number | null = null
  let ticker: NodeJS.Timeout | null = null
  let endTimer: NodeJS.Timeout | null = null

  const splitter = createFrameSplitter({
    maxPacketBytes: options.maxPacketBytes,
    onFrame(bytes, start, end) {
      if (closed) return
      const delivery = readDelivery(bytes, start, end, options.protocolVersion)
      if (delivery !== null) return options.onDelivery(delivery)
      try {
        codec.parse(bytes.subarray(start, end))
      } catch (error) {
        close(`the broker sent a malformed packet: ${messageOf(error)}`)
      }
    }
  })

  codec.on('packet', (packet) => {
    if (closed) return
    if (packet.cmd === 'publish') options.onDelivery(deliveryOf(packet))
    else if (packet.cmd !== 'pingresp') options.onPacket(packet)
  })
  codec.on('error', (error) => close(`the broker sent a malformed packet: ${messageOf(error)}`))

  socket.setNoDelay(true)
  socket.setKeepAlive(true, 60_000)
  socket.once(options.address.secure ? 'secureConnect' : 'connect', () => {
    if (!closed) options.onOpen()
  })
  socket.on('data', (chunk: Buffer) => {
    lastReceivedMs = performance.now()
    pingSentMs = null
    const refusal = splitter.push(chunk)
    if (refusal !== null) close(refusal)
  })
  socket.on('error', (error) => close(describe(error)))
  socket.on('end', () => close(ENDED_BY_PEER))
  socket.on('close', () => close('the connection was closed'))

  function close(reason: string): void {
    if (closed) return
    closed = true
    if (ticker !== null) clearInterval(ticker)
    if (endTimer !== null) clearTimeout(endTimer)
    socket.destroy()
    options.onClose(reason)
  }

  /** One system call for all that is written in a turn. */
  function cork(): void {
    lastSentMs = performance.now()
    if (corked) return
    corked = true
    socket.cork()
    process.nextTick(() => {
      corked = false
      socket.uncork()
    })
  }

  function watch(keepAliveMs: number): void {
    const nowMs = performance.now()
    const patienceMs = keepAliveMs / 2
    if (pingSentMs !== null && !paused && nowMs - pingSentMs >= patienceMs) {
      return close(
        `the broker has been silent for ${Math.round(nowMs - lastReceivedMs)} ms, keep-alive is ${keepAliveMs} ms`
      )
    }
    if (nowMs - lastSentMs < patienceMs && (pingSentMs !== null || nowMs - lastReceivedMs < patienceMs)) return
    cork()
    socket.write(PINGREQ)
    pingSentMs ??= nowMs
  }

  return {
    send(packet, onWritten) {
      if (closed) return
      const bytes = generate(packet, codecOptions)
      cork()
      socket.write(bytes, (error) => {
        if (!error && !closed) onWritten?.()
      })
    },
    sendBytes(bytes) {
      if (closed) return
      cork()
      socket.write(bytes)
    },
    keepAlive(keepAliveMs) {
      if (closed || keepAliveMs <= 0) return
      ticker = setInterval(() => watch(keepAliveMs), keepAliveMs / TICKS_PER_KEEP_ALIVE)
    },
    pause() {
      paused = true
      socket.pause()
    },
    resume() {
      paused = false
      if (pingSentMs !== null) pingSentMs = performance.now()
      socket.resume()
    },
    end(reason, deadlineMs) {
      if (closed || endTimer !== null) return
      endTimer = setTimeout(() => close(reason), deadlineMs)
      socket.end(() => close(reason))
    },
    destroy: close
  }
}

function openSocket(address: BrokerAddress, tls: TlsOptions): Socket {
  const { host, port } = address
  if (!address.secure) return connectTcp({ host, port })
  return connectTls({ host, port, minVersion: 'TLSv1.2', ...tls })
}

/** A host with several addresses fails with one error for each and no message of its own. */
function describe(error: Error): string {
  if (error.message !== '') return error.message
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0])
  return codeOf(error) ?? 'the connection failed'
}
