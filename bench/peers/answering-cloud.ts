// A cloud that stores nothing: a broker that answers each batch at once as committed. For what concerns the edge alone.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import { hexOf, openEnvelope } from '../../shared/batch/envelope.ts'
import type { Ack } from '../../shared/ack.ts'
import { parseTopic, topicOf } from '../../shared/topics.ts'
import { stop, tell } from '../load/task.ts'

let records = 0
let batches = 0
let bytes = 0

const broker = new Aedes()
await broker.listen()
broker.on('publish', (packet, client) => {
  const topic = parseTopic(packet.topic)
  if (client === null || topic === null || topic.channel !== 'batch') return
  const wire = Buffer.from(packet.payload)
  const { header, digest } = openEnvelope(wire)
  records += header.records
  batches += 1
  bytes += wire.length
  const ack: Ack = {
    result: 'committed',
    reason: null,
    epoch: header.epoch,
    lane: header.lane,
    batch: header.batch,
    first_seq: header.firstSeq,
    last_seq: header.lastSeq,
    digest: hexOf(digest),
    stored: header.records,
    duplicates: 0,
    dead_letters: 0
  }
  const payload = Buffer.from(JSON.stringify(ack))
  broker.publish(
    { cmd: 'publish', topic: topicOf(topic.gateway, 'ack'), payload, qos: 1, retain: false, dup: false },
    () => undefined
  )
})

const server = createServer((socket) => void broker.handle(socket))
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  tell({ port: typeof address === 'object' && address !== null ? address.port : 0 })
})
stop.addEventListener('abort', () => {
  tell({ records, batches, bytes })
  process.exit(0)
})
