// The part of aedes-persistence 11 that the broker door builds on; the package's own declarations are not where it is imported.
declare module 'aedes-persistence/asyncPersistence.js' {
  type Packet = { cmd?: string; messageId?: number }
  export default class AsyncPersistence {
    incomingGetPacket(client: { id: string }, packet: Packet): Promise<Packet>
    incomingDelPacket(client: { id: string }, packet: Packet): Promise<void>
    cleanIncoming(client: { id: string }): Promise<void>
  }
}
