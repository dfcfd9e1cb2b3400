// The doors to the plant's own brokers, and the memory of what their sessions were subscribed with.
//
// A filter stays in the list until the broker has answered a subscription without it: a crash in between forgets nothing.
import { join } from 'node:path'
import type { Log } from '../shared/log.ts'
import type { DoorState } from '../shared/status.ts'
import { readKnownFilters, saveKnownFilters } from './doors/known-filters.ts'
import { openSourceDoor } from './doors/source.ts'
import type { Intake } from './intake.ts'
import type { Packets } from './packets.ts'

export type Sources = {
  states(): DoorState[]
  /** To be called now and then: forgets former filters once the sessions are rid of them. */
  settle(): void
  close(): Promise<void>
}

export function openSources(options: {
  urls: readonly string[]
  topics: readonly string[]
  gateway: string
  folder: string
  intake: Intake
  packets: Packets
  log: Log
}): Sources {
  const { urls, log } = options
  const path = join(options.folder, 'source-filters.json')
  const topics = [...new Set(options.topics)]
  const known = readKnownFilters(path, log)
  const unsettled = new Set<number>()

  function remember(number: number, filters: string[]): void {
    const before = known[number] ?? []
    if (before.length === filters.length && filters.every((filter) => before.includes(filter))) return
    known[number] = filters
    saveKnownFilters(path, known)
  }

  const doors = urls.map((url, number) => {
    const knownFilters = known[number] ?? []
    if (knownFilters.some((filter) => !topics.includes(filter))) unsettled.add(number)
    remember(number, [...new Set([...knownFilters, ...topics])])
    return openSourceDoor({
      url,
      gateway: options.gateway,
      number,
      topics,
      knownFilters,
      intake: options.intake,
      packets: options.packets,
      log: log.child({ source: number })
    })
  })

  return {
    states: () => doors.map((door) => door.state()),
    settle() {
      for (const number of unsettled) {
        if (doors[number]?.state().state !== 'up') continue
        unsettled.delete(number)
        remember(number, topics)
      }
    },
    async close() {
      await Promise.all(doors.map((door) => door.close()))
    }
  }
}
