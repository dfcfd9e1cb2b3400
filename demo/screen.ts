// What a person sees in the terminal: lines that stay, and one live line below them that is rewritten. Where the output
// is no terminal the live line is an ordinary line every 10 s.

export type Screen = {
  /** A line that stays. */
  say(line: string): void
  /** The live line of now, in one form or several, the longest first: the first that fits is shown. */
  live(...forms: string[]): void
  /** Ends the live line, another may follow; `say` still works. */
  endLive(): void
}

/** The part of a stream that is used; of a terminal `columns`, as wide as the window is now. */
export type Output = { write(text: string): unknown; isTerminal: boolean; columns(): number }

const LIVE_EVERY_MS = 10_000
const CLEAR_LINE = '\r\x1b[K'

export function createScreen(options: { output: Output; clockMs: () => number }): Screen {
  const { output, clockMs } = options
  let shown: readonly string[] = []
  let writtenAtMs = Number.NEGATIVE_INFINITY

  function draw(): void {
    if (shown.length > 0) output.write(`${CLEAR_LINE}${fitting(shown, output.columns() - 1)}`)
  }

  return {
    say(line) {
      output.write(shown.length === 0 ? `${line}\n` : `${CLEAR_LINE}${line}\n`)
      draw()
    },
    live(...forms) {
      if (output.isTerminal) {
        shown = forms
        draw()
      } else if (clockMs() - writtenAtMs >= LIVE_EVERY_MS) {
        writtenAtMs = clockMs()
        output.write(`${forms[0] ?? ''}\n`)
      }
    },
    endLive() {
      if (shown.length > 0) output.write('\n')
      shown = []
      writtenAtMs = Number.NEGATIVE_INFINITY
    }
  }
}

/** A line that is too long would wrap, and what has wrapped can't be rewritten. */
function fitting(forms: readonly string[], columns: number): string {
  const form = forms.find(({ length }) => length <= columns) ?? forms.at(-1) ?? ''
  return form.length <= columns ? form : `${form.slice(0, Math.max(1, columns - 1))}…`
}

export type Place = {
  /** Null: no plant. */
  plant: { sensors: number; rateHz: number; seed: number } | null
  edge: { broker: { host: string; port: number; url: string }; page: string }
  bridge: { broker: string; page: string }
  database: string
  folder: string
  logs: string
  /** Variables that the commands to try need in front of them, `NAME=value `; mostly empty. */
  rowsVariables: string
  seedVariables: string
}

/** A sensor that isn't the plant's, so that its row is easily told. */
export const TRY_SENSOR = 'plant/line-1/desk/temperature'

/** The first screen. */
export function welcome({ plant, edge, bridge, database, folder, logs, rowsVariables, seedVariables }: Place): string {
  const publish = `npx mqtt pub -h ${edge.broker.host} -p ${edge.broker.port} -q 1 -t ${TRY_SENSOR} -m 21.5`
  const simulated =
    plant === null
      ? 'none (--no-plant): publish from a client of yours'
      : `${plant.sensors} simulated sensors, ${plant.rateHz} reading${plant.rateHz === 1 ? '' : 's'} a second each (seed ${plant.seed})`
  return [
    '',
    'Millrace runs: from a sensor’s publish to a row in the database, exactly once.',
    '',
    `  plant      ${simulated}`,
    `  edge       ${edge.broker.url}    page ${edge.page}`,
    `  bridge     ${bridge.broker}    page ${bridge.page}`,
    `  database   ${database}`,
    `  files      data in ${folder}, logs in ${logs}`,
    '',
    'Try in a second terminal, in this folder:',
    '',
    `  publish a reading           ${publish}`,
    `  see it as a row             ${rowsVariables}npm run rows -- --sensor ${TRY_SENSOR}`,
    `  see the maintenance tasks   ${rowsVariables}npm run tasks`,
    `  send 20,000 readings        ${seedVariables}npm run seed`,
    '',
    'Ctrl-C stops it. The next npm start goes on with the same data.',
    ''
  ].join('\n')
}

export type Figures = {
  /** Of the plant; null without one. */
  plant: { published: number; acknowledged: number } | null
  /** Accepted by the edge and not yet in the database, records; null while it isn't known. */
  waiting: number | null
  /** Readings in the database; null while it can't be asked. */
  rows: number | null
  /** Age of the oldest waiting record, s; 0 when none waits. */
  lagS: number
  problems: readonly string[]
  warnings: number
  errors: number
}

/** The live line's forms, the longest first. */
export function liveLine(figures: Figures, logs: string): string[] {
  const { plant, waiting, rows, lagS, problems, warnings, errors } = figures
  const logged = warnings + errors === 0 ? '' : `${amount(warnings, 'warning')}, ${amount(errors, 'error')}`
  const well = problems.length === 0 ? 'no problems' : amount(problems.length, 'problem')
  const form = (published: string, acknowledged: string, buffered: string, log: string, state = well) =>
    [
      ...(plant === null
        ? []
        : [`${published} ${count(plant.published)}`, `${acknowledged} ${count(plant.acknowledged)}`]),
      `${buffered} ${waiting === null ? '?' : count(waiting)}`,
      `rows ${rows === null ? '?' : count(rows)}`,
      `lag ${lagS.toFixed(1)} s`,
      state,
      ...(log === '' ? [] : [log])
    ].join(' · ')
  return [
    form('published', 'acknowledged', 'in the edge’s buffer', logged === '' ? '' : `${logged} in ${logs}`),
    form('published', 'acknowledged', 'buffered', logged),
    form('sent', 'acked', 'buffered', logged),
    form(
      'sent',
      'acked',
      'buffered',
      logged === '' ? '' : `${count(warnings + errors)} logged`,
      problems.length === 0 ? 'well' : well
    )
  ]
}

/** The last lines, after all has stopped. */
export function farewell(figures: Figures, ranS: number): string {
  const { plant, waiting, rows } = figures
  const sums = [
    ...(plant === null
      ? []
      : [`published ${amount(plant.published, 'reading')}`, `acknowledged ${count(plant.acknowledged)}`]),
    `left in the edge’s buffer ${waiting === null ? 'unknown' : count(waiting)}`,
    `rows in the database ${rows === null ? 'unknown' : count(rows)}`
  ]
  return `Stopped after ${duration(ranS)}: ${sums.join(', ')}. npm start goes on from here.`
}

export function count(number: number): string {
  return number.toLocaleString('en-US')
}

function amount(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? '' : 's'}`
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
