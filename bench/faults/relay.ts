// A broker for one edge that passes its batches on to several bridges' brokers, and their answers back: badly, as it is told.
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { Aedes } from 'aedes'
import type { Client } from 'aedes'
import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'
import { z } from 'zod'
import { parseTopic, topicOf } from '../../shared/topics.ts'
import type { Random } from '../oracle/random.ts'

/** Probabilities, and the longest delay of a batch, ms: delays differ, so batches overtake each other. */
export type Harm = { twice: number; damaged: number; answerLost: number; cutOff: number; delayMs: number }

export type Relay = {
  url: string
  harm: Harm
  /** What was done so far. */
  figures(): { batches: number; twice: number; damaged: number; answersLost: number; cutOff: number }
  close(): Promise<void>
}

const answer = z.object({ digest: z.string().nullable() })

/** `targets`: ports of the bridges' brokers; each batch goes to all at the same time. */
export async function openRelay(options: {
  gateway: string
  targets: readonly number[]
  random: Random
}): Promise<Relay> {
  const { gateway, random } = options
  const figures = { batches: 0, twice: 0, damaged: 0, answersLost: 0, cutOff: 0 }
  const harm: Harm = { twice: 0, damaged: 0, answerLost: 0, cutOff: 0, delayMs: 0 }
  const lost = new Set<string>()
  const timers = new Set<NodeJS.Timeout>()
  const sockets = new Set<Socket>()
  const broker = new Aedes()
  await broker.listen()
  const bridges: MqttClient[] = []
  for (const [index, port] of options.targets.entries()) {
    const bridge = await connectAsync(`mqtt://127.0.0.1:${port}`, { clientId: `relay-${index}`, reconnectPeriod: 50 })
    bridge.on('error', () => undefined)
    bridge.on('message', (_topic, payload) => passBack(payload))
    await bridge.subscribeAsync(topicOf(gateway, 'ack'), { qos: 1 })
    bridges.push(bridge)
  }

  function later(work: () => void): void {
    const timer = setTimeout(() => {
      timers.delete(timer)
      work()
    }, random.next() * harm.delayMs)
    timers.add(timer)
  }

  function passOn(payload: Buffer): void {
    later(() => {
      for (const bridge of bridges) bridge.publish(topicOf(gateway, 'batch'), payload, { qos: 1 })
    })
  }

  broker.on('publish', (packet, client: Client | null) => {
    if (client === null || parseTopic(packet.topic)?.channel !== 'batch') return
    const payload = Buffer.from(packet.payload)
    figures.batches += 1
    if (random.chance(harm.damaged)) {
      figures.damaged += 1
      // Its last byte is content, so the envelope stays readable and the digest is wrong.
      const damaged = Buffer.from(payload)
      damaged.writeUInt8(damaged.readUInt8(damaged.length - 1) ^ 0x55, damaged.length - 1)
      passOn(damaged)
    }
    passOn(payload)
    if (random.chance(harm.twice)) {
      figures.twice += 1
      passOn(payload)
    }
  })

  /** An answer is lost once for a digest and bridge: the edge has to ask again. */
  function passBack(payload: Buffer): void {
    const digest = answer.parse(JSON.parse(payload.toString())).digest ?? ''
    if (lost.has(digest) || !random.chance(harm.answerLost)) {
      broker.publish(
        { cmd: 'publish', topic: topicOf(gateway, 'ack'), payload, qos: 1, retain: false, dup: false },
        () => undefined
      )
      return
    }
    lost.add(digest)
    figures.answersLost += 1
    if (!random.chance(harm.cutOff)) return
    figures.cutOff += 1
    for (const socket of sockets) socket.destroy()
  }

  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    broker.handle(socket)
  })
  const port = await new Promise<number>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })

  return {
    url: `mqtt://127.0.0.1:${port}`,
    harm,
    figures: () => ({ ...figures }),
    async close() {
      for (const timer of timers) clearTimeout(timer)
      await Promise.all(bridges.map((bridge) => bridge.endAsync(true)))
      await new Promise<void>((resolve) => broker.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    }
  }
}
