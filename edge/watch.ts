// Looks each second at what health is made of: the buffer's figures, how fast they change, whether its thread answers at all,
// and since when the uplink is up or down.
import type { EdgeBuffer } from './buffer/buffer.ts'
import type { StoreFigures } from './buffer/store.ts'
import { AppError } from '../shared/errors.ts'
import { createRates } from './rates.ts'

export type Watch = {
  /** The figures of now; those last known when the buffer doesn't answer within 5 s. */
  look(): Promise<StoreFigures>
  /** The buffer's thread doesn't keep a question waiting for 5 s or more. */
  isAnswering(): boolean
  perSecond(): { received: number; acknowledged: number }
  /** Since when the uplink is as it is, wall clock ms. */
  uplinkSinceMs(): number
  close(): void
}

const EVERY_MS = 1_000
const ANSWER_WITHIN_MS = 5_000

/** Resolves after a first look. `onTick` is called with each later one. */
export async function startWatch(options: {
  buffer: Pick<EdgeBuffer, 'figures'>
  isUplinkUp: () => boolean
  onTick: () => void
  now: () => number
  clockMs: () => number
}): Promise<Watch> {
  const { buffer, clockMs } = options
  const rates = createRates()
  let asked: { atMs: number; answer: Promise<void> } | null = null
  let figures = await buffer.figures()
  let uplink = { up: false, sinceMs: options.now() }
  note()

  function note(): void {
    let received = 0
    let acknowledged = 0
    for (const sums of figures.sums) {
      received += sums.received
      acknowledged += sums.acknowledged
    }
    rates.note(clockMs(), { received, acknowledged })
  }

  /** One question at a time: a thread that hangs isn't buried in them. */
  function ask(): Promise<void> {
    asked ??= { atMs: clockMs(), answer: answer() }
    return asked.answer
  }

  async function answer(): Promise<void> {
    try {
      figures = await buffer.figures()
    } catch (error) {
      // The buffer is closed or has failed; whoever closed it or was told of its failure ends this too.
      if (!(error instanceof AppError)) throw error
    } finally {
      asked = null
    }
  }

  function seeUplink(): void {
    const up = options.isUplinkUp()
    if (up !== uplink.up) uplink = { up, sinceMs: options.now() }
  }

  const ticker = setInterval(() => {
    seeUplink()
    void ask().then(note)
    options.onTick()
  }, EVERY_MS)

  return {
    async look() {
      const waited = Promise.withResolvers<void>()
      const timer = setTimeout(waited.resolve, ANSWER_WITHIN_MS)
      await Promise.race([ask(), waited.promise])
      clearTimeout(timer)
      return figures
    },
    isAnswering: () => asked === null || clockMs() - asked.atMs < ANSWER_WITHIN_MS,
    perSecond: rates.perSecond,
    uplinkSinceMs() {
      seeUplink()
      return uplink.sinceMs
    },
    close: () => clearInterval(ticker)
  }
}
