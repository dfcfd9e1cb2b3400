// What is wrong, one sentence each for a person who has to act, most urgent first.
import type { LocalStatus } from './status.ts'

type Facts = Omit<LocalStatus, 'problems' | 'health' | 'notReady'>

/** With the uplink up, a record this old without any acknowledgement meanwhile means that data doesn't move, s. */
const STALLED_S = 5
/** Little enough free space that the volume is full before the buffer is, bytes. */
const LOW_DISK_BYTES = 64 * 2 ** 20

/** `notReady`: why messages can't be taken and kept; it is among the problems. */
export function problemsOf(facts: Facts): { problems: string[]; notReady: string | null } {
  const blocking = blockingOf(facts)
  return { problems: [...blocking, ...otherOf(facts)], notReady: blocking[0] ?? null }
}

function blockingOf({ buffer, disk, doors }: Facts): string[] {
  const problems: string[] = []
  if (!buffer.answering) problems.push('the buffer’s thread has not answered for 5 s: is the volume hanging?')
  if (buffer.full) {
    const figures = disk === null ? '' : `: ${gib(disk.usedBytes)} of ${gib(disk.maxBytes)} GiB`
    problems.push(
      `buffer is full${figures}, publishes are not acknowledged; raise EDGE_BUFFER_MAX_BYTES or reconnect the cloud`
    )
  }
  if (
    doors.length > 0 &&
    doors.every((door) => door.state === 'down') &&
    doors.some((door) => door.name.startsWith('broker'))
  ) {
    problems.push('no door is open: nothing can be taken')
  }
  return problems
}

function otherOf({ buffer, backlog, balanced, disk, doors, lastAckAgeS, uplink, clock }: Facts): string[] {
  const problems: string[] = []
  if (uplink.state === 'down') {
    problems.push(
      `uplink is down since ${uplink.since}: ${uplink.detail ?? 'no reason given'}; records wait in the buffer`
    )
  } else if (uplink.held !== null) {
    problems.push(`sending is held: ${uplink.held}`)
  } else if (backlog !== null && backlog.oldestS > STALLED_S && (lastAckAgeS ?? Number.POSITIVE_INFINITY) > STALLED_S) {
    const upS = (Date.parse(clock ?? '') - Date.parse(uplink.since)) / 1_000
    if (upS > STALLED_S) {
      problems.push(
        `data does not move: the oldest record waits for ${Math.round(backlog.oldestS)} s and nothing is acknowledged; is a bridge running?`
      )
    }
  }
  for (const door of doors) {
    if (door.state === 'down') problems.push(`${door.name} is down: ${door.detail ?? 'no reason given'}`)
  }
  if (buffer.setAside !== null) {
    problems.push(`a broken buffer file was set aside at the start: ${buffer.setAside}; what it held was not sent`)
  }
  if (buffer.damaged > 0)
    problems.push(`${buffer.damaged} waiting batches are damaged in the buffer file; the volume may be failing`)
  if (!balanced)
    problems.push('the sums do not balance: this is a defect of the program, please report it with the log')
  if (disk !== null && disk.freeBytes !== null && disk.freeBytes < LOW_DISK_BYTES) {
    problems.push(`the volume of the buffer has only ${Math.round(disk.freeBytes / 2 ** 20)} MiB free`)
  }
  return problems
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(2)
}
