// Keeps node_modules what package-lock.json says, and tap built as .taprc says; two starts at once take turns.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { environmentFor, npm, SetupError } from './npm.mjs'

/** How often a start that waits for another's set-up looks. */
const POLL_MS = 200

/** A lock without its holder's id is being written, or was left by a start that died in that moment. */
const UNWRITTEN_MS = 5_000

/** Installs what the lock file says unless that was done. @throws SetupError */
export async function installPackages(node, checkout, say) {
  const stamp = join(checkout, 'node_modules', '.millrace-installed')
  const wanted = digest([`${process.platform}-${process.arch}`, readFileSync(join(checkout, 'package-lock.json'))])
  if (holds(stamp, wanted)) return
  await takingTurns(checkout, say, async () => {
    if (holds(stamp, wanted)) return
    const reason = existsSync(join(checkout, 'node_modules'))
      ? 'package-lock.json has changed'
      : 'they are not here yet'
    say(`installing the packages of package-lock.json with npm: ${reason}`)
    rmSync(stamp, { force: true })
    const args = ['ci', '--ignore-scripts', '--include=dev', '--include=optional', '--include=peer']
    await npm(node, args, { cwd: checkout, purpose: 'installing the packages' })
    writeFileSync(stamp, wanted)
  })
}

/** Builds tap for the plugins that .taprc names unless that was done. @throws SetupError */
export async function buildTap(node, checkout, say) {
  const stamp = join(checkout, 'node_modules', '.millrace-tap')
  const plugins = join(checkout, '.tap', 'plugins', 'node_modules')
  const wanted = digest([readFileSync(join(checkout, '.taprc')), readFileSync(join(checkout, 'package-lock.json'))])
  if (holds(stamp, wanted) && existsSync(plugins)) return
  await takingTurns(checkout, say, async () => {
    if (holds(stamp, wanted) && existsSync(plugins)) return
    say('building tap for the plugins that .taprc names')
    const tap = join(checkout, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs')
    const built = spawnSync(node, [tap, 'build'], { cwd: checkout, env: environmentFor(node), encoding: 'utf8' })
    if (built.status !== 0) throw new SetupError(`building tap failed:\n${built.stdout}${built.stderr}`)
    writeFileSync(stamp, wanted)
  })
}

function digest(parts) {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part).update('\0')
  return hash.digest('hex')
}

function holds(stamp, wanted) {
  try {
    return readFileSync(stamp, 'utf8') === wanted
  } catch {
    return false
  }
}

/** Does `work` while no other start of this checkout does its own. The lock of a process that is gone doesn't count. */
async function takingTurns(checkout, say, work) {
  const lock = join(checkout, '.cache', 'setup.lock')
  let waiting = false
  try {
    mkdirSync(join(checkout, '.cache'), { recursive: true })
    while (!takesOrLost(lock)) {
      if (!waiting) say(`another start is setting up this checkout: waiting for it (if there is none, delete ${lock})`)
      waiting = true
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  } catch (error) {
    throw new SetupError(
      `this checkout can't be set up: ${checkout} is not writable, or its disk is full\n  ${error.message}`
    )
  }
  const release = () => rmSync(lock, { force: true })
  process.once('exit', release)
  try {
    await work()
  } catch (error) {
    throw error.code === 'ENOSPC' ? new SetupError(`the disk of ${checkout} is full`) : error
  } finally {
    release()
    process.off('exit', release)
  }
}

/** As `takes`; false when the lock vanished while it was looked at. */
function takesOrLost(lock) {
  try {
    return takes(lock)
  } catch (error) {
    if (error.code === 'ENOENT') return false
    throw error
  }
}

function takes(lock) {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
  }
  const held = statSync(lock, { throwIfNoEntry: false })
  if (held === undefined) return false
  const holder = readFileSync(lock, 'utf8')
  const dead = holder === '' ? Date.now() - held.mtimeMs > UNWRITTEN_MS : !lives(Number(holder))
  if (!dead) return false
  // Moved away before it is deleted: had another start taken the lock just now, it gets it back.
  const aside = `${lock}.${process.pid}`
  renameSync(lock, aside)
  if (readFileSync(aside, 'utf8') === holder) rmSync(aside)
  else renameSync(aside, lock)
  return false
}

function lives(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}
