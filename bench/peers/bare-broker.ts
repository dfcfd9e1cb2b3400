// Peer of the edge's broker: the same aedes with the same options and the same guard before it, storing nothing.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import { z } from 'zod'
import { guardSocket } from '../../shared/mqtt/guard.ts'
import { readTask, stop, tell } from '../load/task.ts'

const task = readTask(z.object({ drainTimeout: z.int(), maxClientsIdLength: z.int(), guarded: z.boolean() }))

const broker = new Aedes({ drainTimeout: task.drainTimeout, maxClientsIdLength: task.maxClientsIdLength })
await broker.listen()
const server = createServer((socket) => {
  broker.handle(
    task.guarded ? guardSocket(socket, { onRefused: (reason) => process.stderr.write(`${reason}\n`) }) : socket
  )
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  tell({ port: typeof address === 'object' && address !== null ? address.port : 0 })
})
stop.addEventListener('abort', () => process.exit(0))
