// The report of a test run: a line for each file, each failure whole, and as the last line
// `N passed, N failed, N skipped`, counted in test points: an assertion is one, a subtest is none beside its assertions.
// A subtest without assertions that ends well is one that passed (its waiting could have failed); a subtest or a file that
// fails with no failed assertion in it (a crash, a time-out) is one that failed, and so is a file without any test.
import { Transform } from 'node:stream'
import { Parser } from 'tap-parser'

/** The most lines of a failed file's other output that are shown. */
const MAX_OUTPUT_LINES = 200

const noCounts = () => ({ passed: 0, failed: 0, skipped: 0 })
const emptyFile = () => ({ counts: noCounts(), failures: [], output: [] })
const indent = (text, width) => text.replace(/^(?=.)/gm, ' '.repeat(width))

/** What tap gives for an empty file or subtest as the reason of a skip. */
const EMPTY = 'no tests found'

/** A failed point's diagnostics without what only a machine wants. */
function describe(diag) {
  const { diff, found, wanted, at, stack, source, stdio, cwd, externalID, command, args, jobId, ...rest } = diag ?? {}
  const lines = []
  if (at !== undefined && at !== null) lines.push(`at ${at.fileName}:${at.lineNumber}:${at.columnNumber}`)
  if (typeof source === 'string') lines.push(source.trimEnd())
  if (typeof diff === 'string') lines.push(diff.trimEnd())
  else {
    if (wanted !== undefined) lines.push(`wanted: ${JSON.stringify(wanted, null, 2)}`)
    if (found !== undefined) lines.push(`found: ${JSON.stringify(found, null, 2)}`)
  }
  for (const [name, value] of Object.entries(rest)) {
    lines.push(`${name}: ${typeof value === 'string' ? value.trimEnd() : JSON.stringify(value)}`)
  }
  if (typeof stack === 'string') lines.push(`stack:\n${indent(stack.trimEnd(), 2)}`)
  return lines.join('\n')
}

/**
 * Counts the points under one parser into `counts`. `path` names the subtests above it; `failures` and `output` gather
 * what a failed file shows.
 */
function watch(parser, path, counts, failures, output) {
  let inChild = noCounts()
  let childSeen = false
  parser.on('child', (child) => {
    childSeen = true
    inChild = noCounts()
    watch(child, [...path, child.name], inChild, failures, output)
  })
  parser.on('extra', (text) => output.push(text.trimEnd()))
  parser.on('assert', (point) => {
    const skipped = point.skip || point.todo
    if (childSeen) {
      counts.passed += inChild.passed
      counts.failed += inChild.failed
      counts.skipped += inChild.skipped
    }
    const alone = !childSeen || inChild.passed + inChild.failed + inChild.skipped === 0
    if (alone && skipped && point.skip !== EMPTY) counts.skipped += 1
    else if (alone && point.ok) counts.passed += 1
    else if (!point.ok && (alone || inChild.failed === 0)) {
      counts.failed += 1
      failures.push({ path: [...path, point.name], text: describe(point.diag) })
    }
    childSeen = false
  })
}

export default class Reporter extends Transform {
  constructor() {
    super()
    this.counts = noCounts()
    this.failed = []
    this.parser = new Parser()
    this.parser.on('child', (file) => this.watchFile(file))
    // A file that could not be run at all has no child.
    this.parser.on('assert', (point) => this.endFile(point))
    this.parser.on('bailout', (reason) => this.push(`bailed out: ${reason}\n`))
    this.current = null
  }

  watchFile(file) {
    this.current = emptyFile()
    watch(file, [file.name], this.current.counts, this.current.failures, this.current.output)
  }

  endFile(point) {
    const { counts, failures, output } = this.current ?? emptyFile()
    this.current = null
    const ran = counts.passed + counts.failed + counts.skipped
    if (ran === 0 && point.ok && point.skip && point.skip !== EMPTY) counts.skipped = 1
    else if (ran === 0 || (!point.ok && counts.failed === 0)) {
      counts.failed += 1
      failures.push({ path: [point.name], text: point.ok ? 'the file has no test' : describe(point.diag) })
    }
    for (const kind of ['passed', 'failed', 'skipped']) this.counts[kind] += counts[kind]
    const seconds = typeof point.time === 'number' ? ` (${(point.time / 1000).toFixed(1)} s)` : ''
    const failedPart = counts.failed > 0 ? `, ${counts.failed} failed` : ''
    const skippedPart = counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''
    const word = counts.failed > 0 ? 'FAILED' : 'ok'
    this.push(`${word} ${point.name}: ${counts.passed} passed${failedPart}${skippedPart}${seconds}\n`)
    if (counts.failed === 0) return
    process.exitCode = 1
    for (const failure of failures) this.push(indent(`✗ ${failure.path.join(' › ')}\n${indent(failure.text, 2)}\n`, 2))
    if (output.length > 0) {
      const shown = output.slice(-MAX_OUTPUT_LINES)
      const cut = shown.length < output.length ? `, its last ${shown.length} lines` : ''
      this.push(indent(`the file's other output${cut}:\n${shown.join('\n')}\n`, 2))
    }
    this.failed.push(point.name)
  }

  _transform(chunk, _encoding, done) {
    this.parser.write(chunk)
    done()
  }

  _flush(done) {
    this.parser.once('complete', () => {
      const { passed, failed, skipped } = this.counts
      if (this.failed.length > 0) this.push(`failed: ${this.failed.join(', ')}\n`)
      if (failed > 0 || passed === 0) process.exitCode = 1
      this.push(`${passed} passed, ${failed} failed, ${skipped} skipped\n`)
      done()
    })
    this.parser.end()
  }
}
