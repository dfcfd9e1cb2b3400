// The part of aedes-persistence 11 that the broker door builds on; the package's own declarations are not where it is imported.
declare module 'aedes-persistence/asyncPersistence.js' {
  import type { Readable } from 'node:stream'

  export type Packet = {
    cmd?: string
    topic?: string
    payload?: string | Uint8Array
    brokerId?: string
    brokerCounter?: number
    messageId?: number | undefined
  }
  export default class AsyncPersistence {
    storeRetained(packet: Packet): Promise<void>
    outgoingEnqueue(subscription: { clientId: string }, packet: Packet): Promise<void>
    outgoingEnqueueCombi(subscriptions: readonly { clientId: string }[], packet: Packet): Promise<void>
    outgoingUpdate(client: { id: string }, packet: Packet): Promise<void>
    outgoingClearMessageId(client: { id: string }, packet: Packet): Promise<Packet | undefined>
    outgoingStream(client: { id: string }): Readable
    incomingGetPacket(client: { id: string }, packet: Packet): Promise<Packet>
    incomingDelPacket(client: { id: string }, packet: Packet): Promise<void>
    cleanIncoming(client: { id: string }): Promise<void>
  }
}
