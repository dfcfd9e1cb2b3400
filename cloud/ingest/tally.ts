// What became of a batch's records. Invariant: records = stored + duplicates + deadLettered + evicted.
export type Tally = { stored: number; duplicates: number; deadLettered: number; evicted: number }

export function sameTally(a: Tally, b: Tally): boolean {
  return (
    a.stored === b.stored &&
    a.duplicates === b.duplicates &&
    a.deadLettered === b.deadLettered &&
    a.evicted === b.evicted
  )
}
