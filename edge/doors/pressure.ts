// Holds up one connection of the embedded broker whose publishes wait for the disk: aedes would read on without limit.
import type { ReadGate } from '../../shared/mqtt/read-gate.ts'
import type { Intake } from '../intake.ts'

/** What a connection may have waiting before it is no longer read. */
const MAX_MESSAGES = 256
const MAX_BYTES = 512 * 1_024

export type Pressure = {
  /** A publish waits; the returned function answers it. */
  hold<Answer>(bytes: number, done: (answer: Answer) => void): (answer: Answer) => void
  /** The intake can take more again. */
  relieve(): void
  /** Nothing more is read. */
  stop(): void
}

export function createPressure(gate: ReadGate, intake: Pick<Intake, 'isSaturated'>): Pressure {
  let messages = 0
  let heldBytes = 0
  let stopped = false

  function settle(): void {
    if (stopped || messages >= MAX_MESSAGES || heldBytes >= MAX_BYTES || (messages > 0 && intake.isSaturated()))
      gate.shut()
    else gate.open()
  }

  return {
    hold(bytes, done) {
      messages += 1
      heldBytes += bytes
      settle()
      return (answer) => {
        messages -= 1
        heldBytes -= bytes
        done(answer)
        settle()
      }
    },
    relieve: settle,
    stop() {
      stopped = true
      settle()
    }
  }
}
