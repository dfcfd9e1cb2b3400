// The topics between edge and cloud. Whatever lies under `millrace/` is the system's own and never input.

export const ROOT = 'millrace/'
const VERSION_ROOT = 'millrace/v1'

export const CHANNELS = ['batch', 'ack', 'status', 'latest', 'command'] as const
export type Channel = (typeof CHANNELS)[number]

/** A gateway id: lower case, digits and hyphens, at most 63 characters. */
export const GATEWAY_ID = /^[a-z0-9][a-z0-9-]{0,62}$/

/** The topic of one gateway's channel, e.g. `millrace/v1/press-hall/batch`. */
export function topicOf(gateway: string, channel: Channel): string {
  return `${VERSION_ROOT}/${gateway}/${channel}`
}

/** The filter for one channel of all gateways. */
export function filterOf(channel: Channel): string {
  return `${VERSION_ROOT}/+/${channel}`
}

/** Gateway and channel of a topic, or null when it isn't one of ours. */
export function parseTopic(topic: string): { gateway: string; channel: Channel } | null {
  const [root, version, gateway, name, ...rest] = topic.split('/')
  if (root !== 'millrace' || version !== 'v1' || rest.length > 0 || gateway === undefined) return null
  const channel = CHANNELS.find((candidate) => candidate === name)
  if (channel === undefined || !GATEWAY_ID.test(gateway)) return null
  return { gateway, channel }
}
