// The reason codes that a broker answers with, in words. Codes from 0x80 on refuse.
// Sources: MQTT 3.1.1 table 3.1 (CONNACK), MQTT 5 section 2.4.

const CONNECT_REFUSALS_3: Record<number, string> = {
  1: 'it does not speak MQTT 3.1.1',
  2: 'it does not take this client id',
  3: 'it is not available now',
  4: 'user name or password is malformed or wrong',
  5: 'this user is not authorized'
}

const REASONS_5: Record<number, string> = {
  0x80: 'unspecified error',
  0x81: 'malformed packet',
  0x82: 'protocol error',
  0x83: 'refused by the implementation',
  0x84: 'it does not speak MQTT 5',
  0x85: 'it does not take this client id',
  0x86: 'user name or password is wrong',
  0x87: 'not authorized',
  0x88: 'it is not available now',
  0x89: 'it is busy',
  0x8a: 'this client is banned',
  0x8b: 'it is shutting down',
  0x8c: 'bad authentication method',
  0x8d: 'it heard nothing for longer than the keep-alive',
  0x8e: 'another client connected with the same client id; give each its own',
  0x8f: 'the topic filter is not valid',
  0x90: 'the topic is not valid',
  0x91: 'packet identifier in use',
  0x92: 'packet identifier not found',
  0x93: 'more unacknowledged messages than it takes',
  0x94: 'topic alias not valid',
  0x95: 'the packet is larger than it takes',
  0x96: 'messages come faster than it takes',
  0x97: 'a quota is exceeded',
  0x98: 'closed by its administrator',
  0x99: 'payload format not valid',
  0x9a: 'it keeps no retained messages',
  0x9b: 'it does not support this QoS',
  0x9c: 'use another server',
  0x9d: 'the server has moved',
  0x9e: 'it has no shared subscriptions',
  0x9f: 'connections come faster than it takes',
  0xa0: 'it limits the time of a connection',
  0xa1: 'it has no subscription identifiers',
  0xa2: 'it has no wildcard subscriptions'
}

/** Why a CONNECT was refused. */
export function connectRefusal(protocolVersion: 4 | 5, code: number): string {
  return (protocolVersion === 5 ? REASONS_5[code] : CONNECT_REFUSALS_3[code]) ?? `reason code ${code}`
}

/** An MQTT 5 reason code of any packet. 3.1.1 knows one only, 0x80 in SUBACK. */
export function reasonText(code: number): string {
  return REASONS_5[code] ?? `reason code ${code}`
}
