// Instants as PostgreSQL takes them. Microseconds since 1970 everywhere else in the program.

/** PostgreSQL's epoch, 2000-01-01T00:00:00Z, µs since 1970. */
export const POSTGRES_EPOCH_US = 946_684_800_000_000

/** ISO 8601 with microseconds; for instants that a reading can carry (years 1684 to 2255). */
export function instantText(timestampUs: number): string {
  const timestampMs = Math.floor(timestampUs / 1_000)
  const rest = timestampUs - timestampMs * 1_000
  return `${new Date(timestampMs).toISOString().slice(0, -1)}${String(rest).padStart(3, '0')}Z`
}
