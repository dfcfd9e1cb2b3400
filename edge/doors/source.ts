// A subscriber to a broker that the plant already has: the other door. A persistent session under a fixed client id, so that
// messages wait there while the edge is away; acknowledged, pipelined, when the records are on the disk.
import type { Log } from '../../shared/log.ts'
import { openConnection } from '../../shared/mqtt/connection.ts'
import type { ConnectionState } from '../../shared/mqtt/connection.ts'
import { parseAddress } from '../../shared/mqtt/address.ts'
import type { DoorState } from '../../shared/status.ts'
import type { Intake } from '../intake.ts'
import { messageDigest } from '../packets.ts'
import type { Packets } from '../packets.ts'

export type SourceDoor = {
  state(): DoorState
  close(): Promise<void>
}

/** Deliveries with the intake at once: announced to an MQTT 5 broker, kept by not reading on for a 3.1.1 one. */
const RECEIVE_MAXIMUM = 2_000
const MAX_HELD_BYTES = 8 * 2 ** 20
const MAX_PACKET_BYTES = 256 * 1_024

export function openSourceDoor(options: {
  url: string
  gateway: string
  /** Which of the configured sources, from 0; part of the client id. */
  number: number
  topics: string[]
  /** Filters that an earlier configuration subscribed with this session. */
  knownFilters: string[]
  intake: Intake
  packets: Packets
  log: Log
}): SourceDoor {
  const { intake, packets } = options
  const session = `source/${options.number}`
  let state: ConnectionState = { phase: 'connecting' }
  let messages = 0
  const connection = openConnection({
    url: options.url,
    clientId: `millrace-edge-${options.gateway}-source-${options.number}`,
    clean: false,
    receiveMaximum: RECEIVE_MAXIMUM,
    maxHeldBytes: MAX_HELD_BYTES,
    maxPacketBytes: MAX_PACKET_BYTES,
    subscriptions: options.topics.map((filter) => ({ filter, qos: 2 })),
    knownFilters: options.knownFilters,
    incoming: {
      isPending: (packet, { topic, payload }) =>
        packets.has({ client: session, packet }, messageDigest(topic, payload)),
      release(packet, done) {
        packets.release({ client: session, packet }).then(
          () => done(null),
          (error: unknown) => done(error instanceof Error ? error : new Error(String(error)))
        )
      },
      clear: () => packets.forget(session)
    },
    onDelivery(delivery, done) {
      messages += 1
      const { topic, payload, qos, packetId } = delivery
      const packet =
        qos === 2 && packetId !== null
          ? { client: session, packet: packetId, digest: messageDigest(topic, payload) }
          : null
      const message = { topic, payload, qos, replayed: delivery.retained, packet }
      if (packet === null) intake.take(message, done)
      else packets.enter(packet, (stored) => intake.take(message, stored), done)
    },
    onState(next) {
      state = next
    },
    log: options.log
  })
  return {
    state: () => ({ name: `source ${parseAddress(options.url).shown}`, ...described(state), messages }),
    close: () => connection.close()
  }
}

function described(state: ConnectionState): Pick<DoorState, 'state' | 'detail'> {
  switch (state.phase) {
    case 'connected': {
      const refused = state.refusedFilters.map(({ filter, reason }) => `${filter}: ${reason}`).join('; ')
      if (refused !== '') return { state: 'down', detail: `the broker refused subscriptions: ${refused}` }
      return { state: state.subscribed ? 'up' : 'down', detail: state.subscribed ? null : 'subscribing' }
    }
    case 'connecting':
      return { state: 'down', detail: 'connecting' }
    case 'disconnected':
    case 'refused':
      return { state: 'down', detail: state.reason }
    case 'closed':
      return { state: 'off', detail: null }
  }
}
