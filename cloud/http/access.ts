// Who sees the details: whoever sits at the bridge's own machine. Beyond it they need a key, and there are no keys yet.
//
// A proxy on this machine also comes from loopback, for someone elsewhere: with any of its headers a request counts as
// from beyond. A page of elsewhere whose name was made to point here names itself in `Host`: only this machine's names do.
import type { IncomingHttpHeaders } from 'node:http'

const LOOPBACK = /^(?:127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1|::ffff:127\.\d{1,3}\.\d{1,3}\.\d{1,3})$/
const LOCAL_HOST = /^(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(?::\d{1,5})?$/i
const PROXY_HEADERS = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip', 'via']

type Origin = { headers: IncomingHttpHeaders; socket: { remoteAddress?: string | undefined } }

export function isLocal({ headers, socket }: Origin): boolean {
  const { remoteAddress } = socket
  return (
    remoteAddress !== undefined &&
    LOOPBACK.test(remoteAddress) &&
    LOCAL_HOST.test(headers.host ?? '') &&
    PROXY_HEADERS.every((name) => headers[name] === undefined)
  )
}
