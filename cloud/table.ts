// Rows as people read them at a terminal: aligned columns, numbers to the right.

export type Column<Row> = { title: string; of: (row: Row) => string; right?: boolean }

/** Control characters would move a terminal's cursor. */
const CONTROL = /\p{Cc}/gu

export function formatTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = rows.map((row) => columns.map(({ of }) => of(row).replace(CONTROL, '·')))
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...cells.map((line) => line[i]?.length ?? 0)))
  const lines = [columns.map(({ title }) => title), ...cells].map((line) =>
    line
      .map((cell, i) => (columns[i]?.right ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd()
  )
  return `${lines.join('\n')}\n`
}
