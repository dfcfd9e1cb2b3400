// The framing of MQTT packets, seen from outside: one byte of type and flags, a length of one to four bytes, a body.
// Only the fixed header is looked at, so that a packet is refused for its size before a byte of its body is kept.

/** What an announced length can reach at most: four bytes of seven bits, and the header. */
export const PROTOCOL_MAX_PACKET_BYTES = 268_435_455 + 5

export type FrameScanner = {
  /** Reads on. Null, or the reason why the stream can't be followed any further; the scanner is spent then. */
  scan(chunk: Uint8Array): string | null
}

/** Follows the packets of a stream through chunks of any size. Costs a few steps a packet, whatever its size. */
export function createFrameScanner(options: {
  /** A fixed header is complete; a text refuses the packet. `packetBytes` counts the header too. */
  onHeader(type: number, packetBytes: number): string | null
  /** A packet ended before this offset of the chunk being scanned. */
  onEnd(end: number): void
}): FrameScanner {
  let type = 0
  let headerBytes = 0
  let bodyBytes = 0
  let leftBytes = 0

  return {
    scan(chunk) {
      let at = 0
      while (at < chunk.length) {
        if (leftBytes > 0) {
          const step = Math.min(leftBytes, chunk.length - at)
          at += step
          leftBytes -= step
          if (leftBytes > 0) return null
        } else {
          const byte = chunk[at] ?? 0
          at += 1
          headerBytes += 1
          if (headerBytes === 1) {
            type = byte >> 4
            bodyBytes = 0
            continue
          }
          bodyBytes += (byte & 0x7f) * 128 ** (headerBytes - 2)
          if (byte >= 0x80) {
            if (headerBytes === 5) return 'the length of a packet has more than four bytes'
            continue
          }
          const refusal = options.onHeader(type, headerBytes + bodyBytes)
          if (refusal !== null) return refusal
          leftBytes = bodyBytes
          if (leftBytes > 0) continue
        }
        headerBytes = 0
        options.onEnd(at)
      }
      return null
    }
  }
}

export type FrameSplitter = {
  /** Takes what arrived. Null, or the reason why the stream can't be followed any further. */
  push(chunk: Buffer): string | null
}

/** Cuts a stream into whole packets. A packet that arrived in one chunk is left where it lies, not copied. */
export function createFrameSplitter(options: {
  maxPacketBytes: number
  /** A packet is whole: it lies in `bytes` from `start` to before `end`. */
  onFrame(bytes: Buffer, start: number, end: number): void
}): FrameSplitter {
  let pieces: Buffer[] = []
  let current: Buffer = Buffer.alloc(0)
  let start = 0

  const scanner = createFrameScanner({
    onHeader(_type, packetBytes) {
      if (packetBytes <= options.maxPacketBytes) return null
      return `a packet of ${packetBytes} bytes is over the limit of ${options.maxPacketBytes}`
    },
    onEnd(end) {
      const first = start
      start = end
      if (pieces.length === 0) return options.onFrame(current, first, end)
      const frame = Buffer.concat([...pieces, current.subarray(first, end)])
      pieces = []
      options.onFrame(frame, 0, frame.length)
    }
  })

  return {
    push(chunk) {
      current = chunk
      start = 0
      const refusal = scanner.scan(chunk)
      if (refusal === null && start < chunk.length) pieces.push(chunk.subarray(start))
      return refusal
    }
  }
}
