// `X-Request-ID`: what the caller gave, if sane, else one of our own; in the response and in every log line of the request.
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** 1 to 128 printable ASCII characters. */
const SANE = /^[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?$/

export function requestIdOf({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && SANE.test(given) ? given : randomUUID()
}
