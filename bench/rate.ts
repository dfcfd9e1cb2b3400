// A rate from samples of a counter: what comes off a queue whose first part warms the program up.

export type Sample = { atMs: number; count: number }

/** Per second, from the moment the counter passed `from` to the one it reached `to`; in between it is taken as even. */
export function rateBetween(samples: readonly Sample[], from: number, to: number): number {
  return ((to - from) / (momentOf(samples, to) - momentOf(samples, from))) * 1_000
}

function momentOf(samples: readonly Sample[], count: number): number {
  const index = samples.findIndex((sample) => sample.count >= count)
  const after = samples[index]
  const before = samples[index - 1]
  if (after === undefined) throw new Error(`the counter never reached ${count}`)
  if (before === undefined) return after.atMs
  return before.atMs + ((count - before.count) / (after.count - before.count)) * (after.atMs - before.atMs)
}
