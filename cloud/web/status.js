// The status page: asks /health every two seconds and shows it. Whatever comes from outside is set as text, never as HTML.

const EVERY_MS = 2000
const WAIT_MS = 5000
const HEALTH_TONES = { ok: 'good', degraded: 'warn', failing: 'bad' }
const INGEST_TONES = { running: 'good', held: 'bad' }
const DATABASE_TONES = { up: 'good', down: 'bad', silent: 'bad' }
const GATEWAY_TONES = { online: 'good', offline: 'bad', silent: 'bad' }
const BALANCE_TONES = { balanced: 'good', 'in flight': 'good', missing: 'bad', unequal: 'bad' }
/** From the one that needs a person most. */
const BALANCE_ORDER = ['unequal', 'missing', 'unknown', 'in flight', 'balanced']
const ENGINES = { timescale: 'TimescaleDB', apache: 'TimescaleDB, Apache edition', plain: 'plain PostgreSQL' }

const number = new Intl.NumberFormat('en')
let answeredAtMs = null

function byId(id) {
  return document.getElementById(id)
}

function setText(id, text) {
  byId(id).textContent = text
}

function setPill(id, text, tone = '') {
  byId(id).textContent = text
  byId(id).className = `pill ${tone}`
}

function make(tag, text, className = '') {
  const made = document.createElement(tag)
  made.textContent = text
  if (className !== '') made.className = className
  return made
}

function count(value) {
  return value === null || value === undefined ? '–' : number.format(value)
}

function bytes(value) {
  if (value < 1024) return `${value} B`
  const units = ['KiB', 'MiB', 'GiB', 'TiB']
  const power = Math.min(units.length, Math.floor(Math.log2(value) / 10))
  return `${(value / 1024 ** power).toFixed(1)} ${units[power - 1]}`
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–'
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86400)} days`
}

/** Both by the bridge's clock: the browser's may be wrong. */
function since(time, clock) {
  return Math.max(0, (Date.parse(clock) - Date.parse(time)) / 1000)
}

function ago(time, clock) {
  if (time === null || time === undefined) return '–'
  const seconds = since(time, clock)
  return seconds < 1 ? 'now' : `${duration(seconds)} ago`
}

/** Replaced only when they change: a screen reader says them again each time. */
function showProblems(notReady, problems) {
  const list = byId('problems')
  const wanted = [...notReady.map((text) => make('li', text, 'bad')), ...problems.map((text) => make('li', text))]
  const shown = [...list.children].map((item) => item.textContent)
  if (shown.length === wanted.length && wanted.every((item, index) => item.textContent === shown[index])) return
  list.replaceChildren(...wanted)
}

function showRecords({ ingest, clock, gateways }) {
  const commits = [ingest.lastCommitAt, ...gateways.map((gateway) => gateway.lastCommitAt)].filter((time) => time !== null)
  setText('last-commit', ago(commits.sort().at(-1), clock))
  setText('stored', count(ingest.records.stored))
  setText('duplicates', count(ingest.records.duplicates))
  setText('dead-lettered', count(ingest.records.deadLettered))
}

function showBacklog({ gateways, deadLettersOpen, deadLettersTruncated }) {
  const known = gateways.filter((gateway) => gateway.backlog !== null)
  const total = (of) => known.reduce((sum, { backlog }) => sum + of(backlog), 0)
  const oldest = known.reduce((most, { lagS }) => Math.max(most, lagS ?? 0), 0)
  setText('backlog-records', count(total(({ records }) => records)))
  setText('backlog-bytes', bytes(total((backlog) => backlog.bytes)))
  setText('backlog-oldest', oldest === 0 ? '–' : duration(oldest))
  setText('dead-letters', `${count(deadLettersOpen)}${deadLettersTruncated ? ' or more' : ''}`)
}

function showIngest({ ingest }) {
  const { received, replays, forks } = ingest.batches
  const refused = Object.values(ingest.refused).reduce((sum, batches) => sum + batches, forks)
  setPill('ingest-state', ingest.state, INGEST_TONES[ingest.state] ?? 'warn')
  setText('batches', count(received))
  setText('replays', count(replays))
  setText('refused', count(refused))
  setText('held', count(ingest.heldBatches))
}

function showDatabase({ database: { state, address, engine, schema } }) {
  setPill('database-state', state, DATABASE_TONES[state] ?? 'warn')
  setText('engine', engine === null ? '–' : (ENGINES[engine.kind] ?? engine.kind))
  const versions = engine === null ? [] : [`PostgreSQL ${engine.serverVersion}`]
  if (engine !== null && engine.timescaleVersion !== null) versions.push(`TimescaleDB ${engine.timescaleVersion}`)
  setText('server', versions.join(', ') || '–')
  const current = schema?.state === 'current'
  setText('schema', schema === null ? '–' : current ? `${schema.version}, current` : `${schema.version ?? 'none'}, ${schema.state}`)
  setText('database-address', address)
}

function cell(label, content, className = '') {
  const made = make('td', '', className)
  made.dataset.label = label
  made.append(content)
  return made
}

function balancePill(balances) {
  const [worst] = [...balances].sort((a, b) => BALANCE_ORDER.indexOf(a.state) - BALANCE_ORDER.indexOf(b.state))
  if (worst === undefined) return make('span', '–')
  const text =
    worst.state === 'in flight'
      ? `${count(worst.difference)} in flight`
      : worst.state === 'missing'
        ? `differs by ${count(-worst.difference)}`
        : worst.state
  return make('span', text, `pill ${BALANCE_TONES[worst.state] ?? ''}`)
}

function nameCell({ gateway, alarm, problems }) {
  const made = cell('Gateway', make('b', gateway))
  if (alarm !== null) made.append(make('small', alarm, 'bad'))
  for (const problem of problems) made.append(make('small', problem))
  return made
}

function gatewayRow(gateway, clock) {
  const { balances } = gateway
  const said = balances.filter(({ edge }) => edge !== null)
  const acknowledged = said.reduce((sum, { edge }) => sum + edge.acknowledged, 0)
  const inLedger = balances.reduce((sum, { ledger }) => sum + ledger.acknowledged, 0)
  const row = document.createElement('tr')
  row.append(
    nameCell(gateway),
    cell('State', make('span', gateway.state, `pill ${GATEWAY_TONES[gateway.state] ?? ''}`)),
    cell('Last seen', ago(gateway.lastSeenAt, clock)),
    cell('Last commit', ago(gateway.lastCommitAt, clock)),
    cell('Backlog', count(gateway.backlog?.records), 'number'),
    cell('Lag', duration(gateway.lagS), 'number'),
    cell('Acknowledged', said.length === 0 ? '–' : count(acknowledged), 'number'),
    cell('In the ledger', balances.length === 0 ? '–' : count(inLedger), 'number'),
    cell('Sums', balancePill(balances)),
    cell('Dead letters', count(gateway.deadLettersOpen), 'number')
  )
  return row
}

function showGateways({ gateways, gatewaysKnown, clock }) {
  byId('gateways').replaceChildren(...gateways.map((gateway) => gatewayRow(gateway, clock)))
  setText('gateways-count', gatewaysKnown === 0 ? '' : count(gatewaysKnown))
  const hidden = gatewaysKnown - gateways.length
  const note = byId('gateways-note')
  note.hidden = gatewaysKnown > 0 && hidden === 0
  note.textContent =
    gatewaysKnown === 0 ? 'No gateway has been heard of yet: start one with npm run edge.' : `and ${count(hidden)} more with less to say`
}

function showAbout({ version, startedAt, clock, broker }) {
  const state = broker.state === 'up' ? 'connected' : `not connected: ${broker.detail}`
  const kind = broker.kind === 'embedded' ? 'embedded broker' : 'broker'
  const shared = broker.shared ? ', shared with other bridges' : ''
  setText('about', `Version ${version}, up for ${duration(since(startedAt, clock))} · ${kind} ${broker.address}, ${state}${shared}`)
}

function show(report) {
  setPill('health', report.status, HEALTH_TONES[report.status] ?? '')
  document.title = report.status === 'ok' ? 'Millrace bridge' : `${report.status}: Millrace bridge`
  if (report.clock === undefined) {
    return showProblems([], ['The details are shown on the bridge’s own machine only, and not through a proxy.'])
  }
  setText('clock', new Date(report.clock).toLocaleTimeString([], { hourCycle: 'h23' }))
  showProblems(report.notReady, report.problems)
  showRecords(report)
  showBacklog(report)
  showIngest(report)
  showDatabase(report)
  showGateways(report)
  showAbout(report)
}

async function refresh() {
  const main = document.querySelector('main')
  try {
    const response = await fetch('/health', { cache: 'no-store', signal: AbortSignal.timeout(WAIT_MS) })
    show(await response.json())
    answeredAtMs = performance.now()
    main.classList.remove('stale')
  } catch {
    const forS = answeredAtMs === null ? '' : ` for ${duration((performance.now() - answeredAtMs) / 1000)}`
    setPill('health', 'no answer', 'bad')
    setText('clock', `the bridge has not answered${forS}`)
    main.classList.add('stale')
  }
  setTimeout(refresh, EVERY_MS)
}

refresh()
