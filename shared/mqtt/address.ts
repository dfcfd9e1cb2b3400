// Where a broker is: `mqtt://user:password@host:1883` or `mqtts://…`.
import { AppError } from '../errors.ts'

export type BrokerAddress = {
  host: string
  port: number
  secure: boolean
  username: string | null
  password: string | null
  /** For logs: no user, no password. */
  shown: string
}

/** @throws AppError `config_invalid`; the message never holds the password. */
export function parseAddress(text: string): BrokerAddress {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || url.hostname === '' || (url.protocol !== 'mqtt:' && url.protocol !== 'mqtts:')) {
    throw new AppError(
      'config_invalid',
      'a broker URL must look like mqtt://host:1883 or mqtts://user:password@host:8883'
    )
  }
  const secure = url.protocol === 'mqtts:'
  const port = url.port === '' ? (secure ? 8883 : 1883) : Number(url.port)
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port,
    secure,
    username: url.username === '' ? null : decode(url.username),
    password: url.password === '' ? null : decode(url.password),
    shown: `${url.protocol}//${url.hostname}:${port}`
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch (error) {
    throw new AppError('config_invalid', 'user and password in a broker URL must be percent-encoded', { cause: error })
  }
}
