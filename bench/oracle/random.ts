// Random numbers that a seed repeats: the faults' times and the oracle's messages.

export type Random = {
  /** Uniform in [0, 1). */
  next(): number
  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number
  chance(probability: number): boolean
  pick<T>(items: readonly [T, ...T[]]): T
  /** Any finite double, all bit patterns alike. */
  double(): number
}

/** mulberry32, by Tommy Ettinger (public domain): 32 bits of state, enough to spread loads and kills. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  const bits = new DataView(new ArrayBuffer(8))

  function word(): number {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  function next(): number {
    return word() / 2 ** 32
  }
  function between(from: number, to: number): number {
    return from + Math.floor(next() * (to - from + 1))
  }
  return {
    next,
    between,
    chance: (probability) => next() < probability,
    pick: (items) => items[between(0, items.length - 1)] ?? items[0],
    double() {
      for (;;) {
        bits.setUint32(0, word())
        bits.setUint32(4, word())
        const value = bits.getFloat64(0)
        if (Number.isFinite(value)) return value
      }
    }
  }
}

/** A seed of its own for a part of a run: FNV-1a over the name. */
export function seedOf(seed: number, name: string): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return hash
}
