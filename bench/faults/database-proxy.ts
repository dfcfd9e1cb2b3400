// Stands between bridge and PostgreSQL, and strikes at a moment that can't be hit by the clock: amid a COPY, or when the server
// has committed and its answer is on the way.
//
// What a strike holds back is never forwarded: the connection ends with it. Source of the frames: PostgreSQL documentation,
// "Message Formats"; the bridge connects without TLS.
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'

export type Moment = 'copy' | 'commit'

export type DatabaseProxy = {
  port: number
  /** The next time that the moment comes: holds the connection, runs `action`, ends the connection; resolves then. */
  strikeAt(moment: Moment, action: () => Promise<void>): Promise<void>
  close(): Promise<void>
}

const CAPTURED_BYTES = 64
const LENGTH_BYTES = 4

/** Calls back with each whole message's type, and the first bytes of its content, before it is complete. */
function createFrameReader(hasType: boolean, onFrame: (type: string, head: Buffer) => void) {
  let typed = hasType
  let head = Buffer.alloc(0)
  let left = 0
  return (chunk: Buffer): void => {
    let at = 0
    while (at < chunk.length) {
      if (left > 0) {
        const skipped = Math.min(left, chunk.length - at)
        left -= skipped
        at += skipped
        continue
      }
      const prefix = typed ? 1 : 0
      const wanted = head.length < prefix + LENGTH_BYTES ? prefix + LENGTH_BYTES : prefix + lengthOf(head, prefix)
      const end = Math.min(wanted, prefix + LENGTH_BYTES + CAPTURED_BYTES)
      const part = chunk.subarray(at, at + end - head.length)
      head = Buffer.concat([head, part])
      at += part.length
      if (head.length < prefix + LENGTH_BYTES) continue
      const total = prefix + lengthOf(head, prefix)
      if (head.length < Math.min(total, prefix + LENGTH_BYTES + CAPTURED_BYTES)) continue
      onFrame(typed ? head.toString('latin1', 0, 1) : '', head.subarray(prefix + LENGTH_BYTES))
      left = total - head.length
      head = Buffer.alloc(0)
      typed = true
    }
  }
}

function lengthOf(head: Buffer, prefix: number): number {
  return head.readUInt32BE(prefix)
}

/** Whether the frame begins a batch's transaction, by the name of the statement that takes it. */
function claimsBatch(type: string, head: Buffer): boolean {
  return (type === 'B' || type === 'P') && head.includes('claim_batches')
}

export async function openDatabaseProxy(upstreamPort: number): Promise<DatabaseProxy> {
  const sockets = new Set<Socket>()
  let strike: {
    moment: Moment
    action: () => Promise<void>
    done: () => void
    failed: (error: unknown) => void
  } | null = null

  function handle(client: Socket): void {
    const server = connect({ port: upstreamPort, host: '127.0.0.1' })
    let claimed = false
    let held = false
    for (const [socket, other] of [
      [client, server],
      [server, client]
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }

    function hit(moment: Moment): void {
      if (strike === null || strike.moment !== moment || held || !claimed) return
      const { action, done, failed } = strike
      strike = null
      held = true
      action()
        .then(done, failed)
        .finally(() => client.destroy())
    }

    const readFrontend = createFrameReader(false, (type, head) => {
      if (type === 'Q' && head.includes('BEGIN')) claimed = false
      claimed ||= claimsBatch(type, head)
      if (type === 'd') hit('copy')
    })
    const readBackend = createFrameReader(true, (type, head) => {
      if (type === 'C' && head.toString('latin1', 0, 6) === 'COMMIT') hit('commit')
    })
    // A chunk that holds the moment is kept whole: what comes before the COMMIT's answer in it is of the same transaction.
    client.on('data', (chunk: Buffer) => {
      readFrontend(chunk)
      if (!held) server.write(chunk)
    })
    server.on('data', (chunk: Buffer) => {
      readBackend(chunk)
      if (!held) client.write(chunk)
    })
  }

  const listener = createServer({ noDelay: true }, handle)
  const port = await new Promise<number>((resolve, reject) => {
    listener.once('error', reject)
    listener.listen(0, '127.0.0.1', () => {
      const address = listener.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })

  return {
    port,
    strikeAt(moment, action) {
      return new Promise((done, failed) => {
        strike = { moment, action, done, failed }
      })
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => listener.close(() => resolve()))
    }
  }
}

/** The same database by way of the proxy. */
export function throughProxy(databaseUrl: string, { port }: Pick<DatabaseProxy, 'port'>): string {
  const url = new URL(databaseUrl)
  url.port = String(port)
  return url.href
}
