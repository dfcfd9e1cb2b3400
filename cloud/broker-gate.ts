// How many batches the embedded broker lets through to the bridge before the bridge has answered for them.
//
// A batch is: passing (admitted, on its way to the receiver's connection) → sent (written to it) → answered (PUBACK), or
// waiting (the bridge has enough) → passing | let go. A waiting batch isn't acknowledged to its gateway, which slows it
// down. It doesn't wait for ever, though: behind it wait the pings and the status of its gateway. So when nothing moves it
// is let go: acknowledged and thrown away. Nothing is lost by that: no PUBACK frees a batch at the edge, only the bridge's
// answer does, and without one the edge sends again.
//
// Guarantees: at most `maxBatches` and about `maxBytes` are passing or sent; at most `maxWaitingBytes` wait.

/** What a batch waits at most, ms: less than a gateway's patience with an unanswered ping. */
const MAX_WAIT_MS = 5_000
const TICK_MS = 250

export type Gate<Client extends object> = {
  /** The connection that takes the batches came or went; with it goes all that it had not answered and all on its way to it. */
  setReceiver(client: Client | null): void
  isReceiver(client: Client): boolean
  /** `done(true)`: go on; `done(false)`: throw it away. The payload is known by its identity afterwards. */
  admit(client: Client, payload: Uint8Array, done: (taken: boolean) => void): void
  /** It is being written to the receiver's connection. */
  sent(payload: Uint8Array): void
  /** The receiver has answered the oldest that was sent. */
  answered(): void
  /** A publisher is gone: what it had not yet handed over won't come. */
  forget(client: Client): void
  figures(): { passing: number; passingBytes: number; waiting: number; letGo: number }
  /** Lets all go. */
  close(): void
}

export type GateLimits = { maxBatches: number; maxBytes: number; maxWaitingBytes: number }

type Waiting<Client> = { client: Client; payload: Uint8Array; sinceMs: number; done: (taken: boolean) => void }

/** `clockMs`: monotonic. */
export function createGate<Client extends object>(options: GateLimits & { clockMs: () => number }): Gate<Client> {
  const { maxBatches, maxBytes, maxWaitingBytes, clockMs } = options
  const passing = new Map<Uint8Array, Client>()
  /** Admitted for a receiver that is gone: may still be written to the next one, or to none. */
  const stray = new WeakSet<Uint8Array>()
  let sentBytes: number[] = []
  let bytes = 0
  let waiting: Waiting<Client>[] = []
  let waitingBytes = 0
  let receiver: Client | null = null
  /** A batch waited in vain, and nothing has been answered since. */
  let stalled = false
  let letGo = 0
  const ticker = setInterval(letLateGo, TICK_MS)
  ticker.unref()

  function hasRoom(): boolean {
    return receiver !== null && passing.size + sentBytes.length < maxBatches && bytes < maxBytes
  }

  function pass(client: Client, payload: Uint8Array, done: (taken: boolean) => void): void {
    passing.set(payload, client)
    bytes += payload.length
    done(true)
  }

  function passWaiting(): void {
    stalled = false
    while (hasRoom()) {
      const next = waiting.shift()
      if (next === undefined) return
      waitingBytes -= next.payload.length
      pass(next.client, next.payload, next.done)
    }
  }

  function throwAway(done: (taken: boolean) => void): void {
    letGo += 1
    done(false)
  }

  function letLateGo(): void {
    const oldestMs = clockMs() - MAX_WAIT_MS
    for (let next = waiting[0]; next !== undefined && next.sinceMs <= oldestMs; next = waiting[0]) {
      stalled = true
      waiting.shift()
      waitingBytes -= next.payload.length
      throwAway(next.done)
    }
  }

  return {
    setReceiver(client) {
      for (const payload of passing.keys()) stray.add(payload)
      passing.clear()
      sentBytes = []
      bytes = 0
      receiver = client
      if (client !== null) passWaiting()
    },
    isReceiver: (client) => client === receiver,
    admit(client, payload, done) {
      if (waiting.length === 0 && hasRoom()) return pass(client, payload, done)
      if (stalled || waitingBytes + payload.length > maxWaitingBytes) return throwAway(done)
      waiting.push({ client, payload, sinceMs: clockMs(), done })
      waitingBytes += payload.length
    },
    sent(payload) {
      if (stray.delete(payload)) bytes += payload.length
      else if (!passing.delete(payload)) return
      sentBytes.push(payload.length)
    },
    answered() {
      bytes -= sentBytes.shift() ?? 0
      passWaiting()
    },
    forget(client) {
      for (const [payload, publisher] of passing) {
        if (publisher !== client) continue
        passing.delete(payload)
        bytes -= payload.length
      }
      for (const item of waiting) if (item.client === client) waitingBytes -= item.payload.length
      waiting = waiting.filter((item) => item.client !== client)
      if (receiver !== null) passWaiting()
    },
    figures: () => ({
      passing: passing.size + sentBytes.length,
      passingBytes: bytes,
      waiting: waiting.length,
      letGo
    }),
    close() {
      clearInterval(ticker)
      for (const { done } of waiting) throwAway(done)
      waiting = []
      waitingBytes = 0
    }
  }
}
