// Holds a publisher up. aedes reads on at each `readable` event, whether `authorizePublish` has answered for the packets
// before or not: with packets that arrive one by one, or larger than a read, nothing stops it, and what isn't stored yet
// piles up in memory. A closed gate gives it nothing to read; the socket's buffer fills, and TCP holds the sender up.
import type { Socket } from 'node:net'

export type ReadGate = {
  /** Reads give nothing from now on. While a gate is closed, pings aren't seen either. */
  shut(): void
  /** Reading goes on. */
  open(): void
}

/** Puts a gate, open at first, before the reads of a socket that is read by `readable` events. */
export function createReadGate(socket: Socket): ReadGate {
  const read = socket.read
  let isShut = false
  // Without a size only what is there is given: the stream's own reads (size 0) keep the buffer filling.
  socket.read = (size?: number) => (isShut && size !== 0 ? null : read.call(socket, size))
  return {
    shut() {
      isShut = true
    },
    open() {
      if (!isShut) return
      isShut = false
      if (socket.readableLength > 0 || socket.readableEnded) socket.emit('readable')
      else socket.read(0)
    }
  }
}
