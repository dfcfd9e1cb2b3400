// An aedes broker in this process on a free port: MQTT 3.1.1 only, everything in memory.
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { Aedes } from 'aedes'
import type { AedesOptions } from 'aedes'
import type { Test } from 'tap'

export type AedesBroker = {
  url: string
  port: number
  broker: Aedes
  /** Destroys all connections; sessions stay. */
  cut(): void
  stop(): Promise<void>
}

export async function startAedes(
  t: Pick<Test, 'teardown'>,
  options: { broker?: AedesOptions; guard?: (socket: Socket) => Socket } = {}
): Promise<AedesBroker> {
  const broker = await Aedes.createBroker(options.broker)
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    broker.handle(options.guard?.(socket) ?? socket)
  })
  const port = await listen(server)

  function cut(): void {
    for (const socket of sockets) socket.destroy()
  }

  let stopped: Promise<void> | null = null
  function stop(): Promise<void> {
    stopped ??= new Promise((resolve) => {
      server.close()
      broker.close(() => {
        cut()
        resolve()
      })
    })
    return stopped
  }

  t.teardown(stop)
  return { url: `mqtt://127.0.0.1:${port}`, port, broker, cut, stop }
}

/** Listens on a free loopback port and gives it back. */
export function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      if (address === null || typeof address === 'string') reject(new Error('the server listens on no port'))
      else resolve(address.port)
    })
  })
}
