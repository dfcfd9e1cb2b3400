// The table that `npm run bench` prints: Markdown, to be read as it is and pasted.
import type { Figure, Target } from './figures.ts'

const HEADINGS = ['bench', 'figure', 'median', 'range', 'target', 'reached', 'sent / lost / duplicates']

/** Lines of the table; what was skipped stands with its reason. */
export function tableOf(
  benches: readonly { name: string; figures: readonly Figure[]; skipped: string | null }[]
): string[] {
  const rows = [HEADINGS]
  const reasons = new Map<number, string>()
  for (const { name, figures, skipped } of benches) {
    if (skipped !== null) reasons.set(rows.push([name]) - 1, `skipped: ${skipped}`)
    for (const [index, figure] of figures.entries()) rows.push([index === 0 ? name : '', ...cellsOf(figure)])
  }
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const lines = rows.map((row, index) => {
    const reason = reasons.get(index)
    const cells = reason === undefined ? row : [row[0] ?? '', reason]
    return `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width)).join(' | ')} |`
  })
  lines.splice(1, 0, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`)
  return lines
}

function cellsOf(figure: Figure): string[] {
  const { name, unit, median, low, high, target, reached, losses } = figure
  const range = figure.rounds.length < 2 ? '' : `${shown(low)} to ${shown(high)}`
  const verdict = reached === null ? '' : reached ? 'yes' : 'NO'
  const counts = losses === null ? '' : `${losses.sent} / ${losses.lost} / ${losses.duplicates}`
  return [name, `${shown(median)} ${unit}`.trim(), range, shownTarget(target), verdict, counts]
}

function shownTarget(target: Target | null): string {
  if (target === null) return ''
  return 'atLeast' in target ? `≥ ${shown(target.atLeast)}` : `≤ ${shown(target.atMost)}`
}

/** Three digits that count, thousands set apart. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return String(value)
  const size = Math.abs(value)
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3
  const [whole = '', fraction] = value.toFixed(digits).split('.')
  const grouped = whole.replaceAll(/\B(?=(\d{3})+$)/g, ',')
  return fraction === undefined ? grouped : `${grouped}.${fraction}`
}
