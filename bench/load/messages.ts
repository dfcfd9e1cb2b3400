// The plant's messages: W1 of the proof is 50 machines with 20 quantities each.
import { createRandom } from '../oracle/random.ts'

/** `plant/line-1/press-07/q3` */
export function topicOf(machine: number, quantity: number): string {
  return `plant/line-${machine % 4}/press-${String(machine).padStart(2, '0')}/q${quantity}`
}

/** Two decimals, wandering by up to `step` from one to the next: what a sensor says. */
export function createSignals(count: number, seed: number, step = 0.1): (signal: number) => number {
  const random = createRandom(seed)
  const values = Float64Array.from({ length: count }, () => 20 + random.next() * 50)
  return (signal) => {
    const value = (values[signal] ?? 0) + (random.next() - 0.5) * 2 * step
    values[signal] = value
    return Math.round(value * 100) / 100
  }
}

export function payloadOf(value: number, timestampMs: number): string {
  return `{"value":${value},"timestamp":${timestampMs}}`
}

const TOPICS_PER_CLIENT = 50

export type Feed = () => { topic: string; payload: string }

/** One client's messages for a closed loop: 50 sensors in turn, each with a time that grows. */
export function createFeed(client: number, seed: number): Feed {
  const topics = Array.from({ length: TOPICS_PER_CLIENT }, (_, quantity) => topicOf(client, quantity))
  const lastMs = new Float64Array(TOPICS_PER_CLIENT)
  const next = createSignals(TOPICS_PER_CLIENT, seed + client)
  let turn = 0
  return () => {
    const index = turn
    turn = (turn + 1) % TOPICS_PER_CLIENT
    const timestampMs = Math.max(Date.now(), (lastMs[index] ?? 0) + 1)
    lastMs[index] = timestampMs
    return { topic: topics[index] ?? '', payload: payloadOf(next(index), timestampMs) }
  }
}
