// The page's script: fetches /health every two seconds and shows it. What comes from outside is only ever set as text.

export const PAGE_SCRIPT = String.raw`
'use strict'
const EVERY_MS = 2000
const WAIT_MS = 8000
const SPARK_POINTS = 150
const byId = (id) => document.getElementById(id)
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const oneDigit = new Intl.NumberFormat('en', { maximumFractionDigits: 1 })
const flow = []
let answeredAt = null

function say(id, text) {
  const element = byId(id)
  if (element.textContent !== text) element.textContent = text
}

function pill(id, text, kind) {
  say(id, text)
  byId(id).className = 'pill ' + kind
}

function make(tag, text, className) {
  const element = document.createElement(tag)
  if (text !== undefined) element.textContent = text
  if (className !== undefined) element.className = className
  return element
}

function bytes(count) {
  if (count === null || count === undefined) return 'unknown'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024
    unit += 1
  }
  return oneDigit.format(count) + ' ' + units[unit]
}

function span(seconds) {
  if (seconds < 1) return 'under 1 s'
  if (seconds < 120) return whole.format(seconds) + ' s'
  if (seconds < 7200) return whole.format(seconds / 60) + ' min'
  if (seconds < 172800) return oneDigit.format(seconds / 3600) + ' h'
  if (seconds < 31536000) return whole.format(seconds / 86400) + ' days'
  return 'over a year'
}

function moment(date) {
  const two = (number) => String(number).padStart(2, '0')
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')
  if (date.toDateString() === new Date().toDateString()) return time
  return [date.getFullYear(), date.getMonth() + 1, date.getDate()].map(two).join('-') + ' ' + time
}

function counted(count, one, many) {
  return whole.format(count) + ' ' + (count === 1 ? one : many)
}

function rate(perSecond) {
  return (perSecond < 10 ? oneDigit : whole).format(perSecond)
}

function showProblems(status) {
  const list = byId('problems')
  list.classList.toggle('bad', status.health === 'failing')
  const shown = [...list.children].map((item) => item.textContent)
  if (shown.length === status.problems.length && shown.every((text, index) => text === status.problems[index])) return
  list.replaceChildren(...status.problems.map((problem) => make('li', problem)))
}

function showFigures(status) {
  const { backlog, disk, rates, uplink } = status
  say('backlog-records', whole.format(backlog.records))
  say('backlog-bytes', bytes(backlog.bytes))
  say('backlog-oldest', backlog.records === 0 ? 'nothing waits' : span(backlog.oldestS))
  say('to-drain', backlog.records === 0 ? 'drained' : status.toDrainS === null ? 'not at this rate' : span(status.toDrainS))
  say('rate-in', rate(rates.receivedPerS))
  say('rate-out', rate(rates.acknowledgedPerS) + ' records/s')
  say('last-ack', status.lastAckAgeS === null ? 'none since the start' : span(status.lastAckAgeS) + ' ago')
  const share = Math.min(100, (disk.usedBytes / disk.maxBytes) * 100)
  say('disk-share', share > 0 && share < 0.1 ? '< 0.1 %' : oneDigit.format(share) + ' %')
  byId('disk-fill').style.width = share + '%'
  byId('disk-bar').setAttribute('aria-valuenow', String(Math.round(share)))
  byId('disk-bar').classList.toggle('full', status.buffer.full)
  say('disk-used', bytes(disk.usedBytes) + ' of ' + bytes(disk.maxBytes))
  say('to-full', status.buffer.full ? 'is full' : status.toFullS === null ? 'not at this rate' : span(status.toFullS))
  say('disk-free', bytes(disk.freeBytes) + ' free')
  pill('uplink-state', uplink.held === null ? uplink.state : 'held', uplink.state === 'up' && uplink.held === null ? 'good' : 'warn')
  say('uplink-since', moment(new Date(uplink.since)))
  say('uplink-flight', whole.format(uplink.inFlight))
  say('uplink-sent', whole.format(uplink.sentBatches) + ', ' + whole.format(uplink.resends))
  say('uplink-detail', uplink.held ?? uplink.detail ?? '')
}

function showFlow({ rates }) {
  flow.push(rates)
  if (flow.length > SPARK_POINTS) flow.shift()
  const top = Math.max(1, ...flow.map(({ receivedPerS, acknowledgedPerS }) => Math.max(receivedPerS, acknowledgedPerS)))
  const points = (of) => flow.map((at, index) => ((index + SPARK_POINTS - flow.length) / (SPARK_POINTS - 1)) * 240 + ',' + (42 - (of(at) / top) * 40)).join(' ')
  byId('spark-in').setAttribute('points', points((at) => at.receivedPerS))
  byId('spark-out').setAttribute('points', points((at) => at.acknowledgedPerS))
}

function equation(left, right) {
  const line = make('div', undefined, 'equation')
  const term = ([name, value]) => {
    const shown = make('span', ' ' + name)
    shown.prepend(make('b', whole.format(value)))
    return shown
  }
  line.append(term(left), make('span', '='))
  right.forEach((part, index) => line.append(...(index > 0 ? [make('span', '+')] : []), term(part)))
  return line
}

function showSums(status) {
  pill('balanced', status.balanced ? 'balanced' : 'not balanced', status.balanced ? 'good' : 'bad')
  const lanes = status.sums.map((of) => {
    const lane = make('div', undefined, 'lane')
    lane.append(
      make('h3', (of.lane === 'readings' ? 'Readings and rejects' : 'Maintenance events') + (of.epoch === status.epoch ? '' : ', former epoch ' + of.epoch.slice(0, 8))),
      equation(['received', of.received], [['filtered', of.filtered], ['duplicate', of.duplicate], ['accepted' + (of.rejected > 0 ? ' (' + counted(of.rejected, 'reject', 'rejects') + ')' : ''), of.accepted]]),
      equation(['accepted', of.accepted], [['pending', of.pending], ['evicted', of.evicted], ['acknowledged', of.acknowledged]]),
      equation(['acknowledged', of.acknowledged], [['stored', of.stored], ['duplicate in the cloud', of.cloudDuplicates], ['dead letters', of.deadLettered]])
    )
    return { lane, rank: (of.epoch === status.epoch ? 0 : 2) + (of.lane === 'readings' ? 0 : 1) }
  })
  byId('sums').replaceChildren(...lanes.sort((a, b) => a.rank - b.rank).map(({ lane }) => lane))
}

function row(cells) {
  const line = make('tr')
  line.append(...cells)
  return line
}

function showDoors(status) {
  const kinds = { up: 'good', down: 'bad', off: '' }
  byId('doors').replaceChildren(
    ...status.doors.map((door) => {
      const state = make('td')
      state.append(make('span', door.state, 'pill ' + kinds[door.state]))
      return row([make('td', door.name), state, make('td', whole.format(door.messages), 'number'), make('td', door.detail ?? '', 'wide')])
    })
  )
  const { intake, connections } = status
  const parts = [counted(intake.messages, 'message', 'messages') + ', ' + bytes(intake.bytes) + ' taken since the start', counted(intake.rejects, 'reject', 'rejects')]
  if (intake.dropped > 0) parts.push(counted(intake.dropped, 'QoS 0 message', 'QoS 0 messages') + ' left out')
  if (connections !== null) parts.push(counted(connections.open, 'client', 'clients') + ' connected')
  if (connections !== null && connections.refused > 0) parts.push(counted(connections.refused, 'connection', 'connections') + ' refused')
  say('intake', parts.join(' · '))
}

function showLatest({ latest }) {
  const { values } = latest
  byId('latest-none').hidden = values.length > 0
  say('latest-count', latest.sensors > values.length ? 'the first ' + values.length + ' of ' + whole.format(latest.sensors) + ' sensors' : '')
  byId('latest').replaceChildren(
    ...values.map((of) => {
      const shown = of.value === null ? '–' : String(of.value) + (of.unit === null ? '' : ' ' + of.unit)
      const value = make('td', shown, 'number value')
      value.title = shown
      const quality = of.quality >= 192 ? 'good' : of.quality >= 64 ? 'uncertain' : 'bad'
      const time = new Date(of.timestampUs / 1000)
      return row([make('td', of.sensor, 'wide'), value, make('td', quality), make('td', Number.isNaN(time.getTime()) ? of.timestampUs + ' µs' : moment(time))])
    })
  )
}

function show(status) {
  document.title = status.gateway + ': ' + status.health + ' · Millrace edge'
  say('gateway', status.gateway)
  pill('health', status.health, { ok: 'good', degraded: 'warn', failing: 'bad' }[status.health])
  say('clock', moment(new Date(status.clock)))
  say('about', 'Millrace ' + status.version + ' · running for ' + span(status.uptimeS))
  showProblems(status)
  showFigures(status)
  showFlow(status)
  showSums(status)
  showDoors(status)
  showLatest(status)
}

function showSilence() {
  pill('health', 'no answer', 'bad')
  say('clock', answeredAt === null ? '' : 'last at ' + moment(answeredAt))
}

async function refresh() {
  try {
    const response = await fetch('/health', { cache: 'no-store', signal: AbortSignal.timeout(WAIT_MS) })
    const status = await response.json()
    if (!('health' in status)) throw new Error('no status')
    answeredAt = new Date()
    show(status)
    document.querySelector('main').classList.remove('stale')
  } catch {
    showSilence()
    document.querySelector('main').classList.add('stale')
  }
  setTimeout(refresh, EVERY_MS)
}

refresh()
`
