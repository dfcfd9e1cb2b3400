// The health routes. `/health` shows the whole, `/health/ready` whether messages can be taken and kept, whatever the cloud does,
// `/health/live` whether the process is worth keeping.
import type { LatestValues } from '../latest.ts'
import type { LocalStatus } from '../status.ts'
import { errorAnswer, json } from './answer.ts'
import type { Route } from './answer.ts'

/** How many sensors the page shows, the first by name. */
const SHOWN_SENSORS = 50

/** 503 when failing, with the same content. */
export function healthRoute(status: () => Promise<LocalStatus>, latest: Pick<LatestValues, 'all'>): Route {
  return async () => {
    const shown = await status()
    const sensors = latest.all().sort(([a], [b]) => (a < b ? -1 : 1))
    const values = sensors.slice(0, SHOWN_SENSORS).map(([sensor, value]) => ({ sensor, ...value }))
    return json(shown.health === 'failing' ? 503 : 200, { ...shown, latest: { sensors: sensors.length, values } })
  }
}

/** Answers at all: the event loop turns. 503 when the buffer's thread doesn't answer. */
export function liveRoute(isLive: () => boolean): Route {
  return () => {
    if (isLive()) return json(200, { status: 'live' })
    return errorAnswer(503, 'not_live', 'the buffer’s thread has not answered for 5 s')
  }
}

export function readyRoute(status: () => Promise<LocalStatus>): Route {
  return async () => {
    const { notReady } = await status()
    return notReady === null ? json(200, { status: 'ready' }) : errorAnswer(503, 'not_ready', notReady)
  }
}
