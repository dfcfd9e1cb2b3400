// Peer of the subscriber door: an mqtt.js client that counts its messages and throws them away. Tells, when it has all, how
// many had come by when.
import mqtt from 'mqtt'
import { z } from 'zod'
import { readTask, stop, tell, wallMs } from '../load/task.ts'

const task = readTask(
  z.object({
    url: z.string(),
    clientId: z.string(),
    topic: z.string(),
    messages: z.int(),
    receiveMaximum: z.int()
  })
)

/** How often the time is noted, messages: timers don't fire while the client is busy. */
const EVERY = 500

let count = 0
const samples = [{ atMs: wallMs(), count }]
let finish: () => void = () => undefined
const finished = new Promise<void>((resolve) => {
  finish = resolve
})
const client = mqtt.connect(task.url, {
  clientId: task.clientId,
  clean: false,
  protocolVersion: 5,
  reconnectPeriod: 0,
  properties: { sessionExpiryInterval: 3_600, receiveMaximum: task.receiveMaximum }
})
client.on('message', () => {
  count += 1
  if (count % EVERY === 0 || count === task.messages) samples.push({ atMs: wallMs(), count })
  if (count === task.messages) finish()
})
client.on('error', (error) => {
  throw error
})
await new Promise<void>((resolve) => client.once('connect', () => resolve()))
await client.subscribeAsync(task.topic, { qos: 1 })
tell({ subscribed: true })

stop.addEventListener('abort', finish)
await finished
// The last acknowledgements are on their way when the connection ends in order.
await client.endAsync()
tell(samples)
process.exit(0)
