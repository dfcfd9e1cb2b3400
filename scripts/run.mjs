// Every npm script goes through here: `node scripts/run.mjs <file.ts | tap | biome | tsc> [arguments]`.
//
// Any Node.js from 20 on with npm is enough to start it. It gets a newer Node.js where that is needed, installs the
// packages where package-lock.json changed, says so, and then runs the program as its child:
// - SIGINT, SIGTERM and SIGHUP reach the child once each, however often they come here (a terminal, npm and a time-out
//   program all signal the whole group); a second press half a second later is handed on again.
// - The child ends when this process is killed (`end-with-parent.mjs`).
// - The exit status is the child's.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const CHECKOUT = dirname(dirname(fileURLToPath(import.meta.url)))
/** Compiled sources, so that a second start needs neither compiler nor type stripper: half the time, 30 MB less. */
const COMPILE_CACHE = join(CHECKOUT, 'node_modules', '.cache', 'millrace')
const TOOLS = {
  tap: 'node_modules/tap/dist/esm/run.mjs',
  biome: 'node_modules/@biomejs/biome/bin/biome',
  tsc: 'node_modules/typescript/bin/tsc'
}

/** What a program asks of Node.js: the edge, which runs on small machines, to collect garbage early (Dockerfile.edge has the same). */
const NODE_FLAGS = JSON.parse(readFileSync(join(CHECKOUT, 'scripts', 'node-flags.json'), 'utf8'))

/** Within this time the same signal is taken for the same key press. */
const SAME_SIGNAL_MS = 500

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP']
const SIGNAL_NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }

function say(line) {
  process.stderr.write(`millrace: ${line}\n`)
}

async function setUp(target) {
  // Not before the version is known: an older Node.js couldn't read these.
  const { SetupError } = await import('./setup/npm.mjs')
  const { findNode } = await import('./setup/node.mjs')
  const { buildTap, installPackages } = await import('./setup/packages.mjs')
  // Ends by exit, so that what the set-up holds is given back.
  const stop = (signal) => process.exit(128 + SIGNAL_NUMBERS[signal])
  for (const signal of SIGNALS) process.on(signal, stop)
  try {
    const node = await findNode(CHECKOUT, say)
    await installPackages(node, CHECKOUT, say)
    if (target === 'tap') await buildTap(node, CHECKOUT, say)
    return node
  } catch (error) {
    say(error instanceof SetupError ? error.message : error.stack)
    return null
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop)
  }
}

async function run(node, target, args) {
  const { environmentFor } = await import('./setup/npm.mjs')
  const tool = Object.hasOwn(TOOLS, target) ? TOOLS[target] : null
  const guard = pathToFileURL(join(CHECKOUT, 'scripts', 'end-with-parent.mjs')).href
  const flags = Object.hasOwn(NODE_FLAGS, target) ? NODE_FLAGS[target] : []
  const options = tool === null ? [...flags, '--import', guard] : []
  const child = spawn(node, [...options, join(CHECKOUT, tool ?? target), ...args], {
    cwd: CHECKOUT,
    env: { NODE_COMPILE_CACHE: COMPILE_CACHE, ...environmentFor(node) },
    stdio: ['inherit', 'inherit', 'inherit', tool === null ? 'pipe' : 'ignore'],
    detached: process.platform !== 'win32'
  })
  const handedOnAt = {}
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      const now = performance.now()
      if (now - (handedOnAt[signal] ?? -SAME_SIGNAL_MS) < SAME_SIGNAL_MS) return
      handedOnAt[signal] = now
      // A closed terminal is no crash: the child shall close in order.
      child.kill(signal === 'SIGHUP' ? 'SIGTERM' : signal)
    })
  }
  return new Promise((resolve) => {
    child.on('error', (error) => {
      say(`can't start ${node}: ${error.message}`)
      resolve(1)
    })
    child.on('exit', (status, signal) => resolve(status ?? 128 + (SIGNAL_NUMBERS[signal] ?? 0)))
  })
}

async function main() {
  const [target, ...args] = process.argv.slice(2)
  if (Number(process.versions.node.split('.')[0]) < 20) {
    say(`this is Node.js ${process.versions.node}; at least Node.js 20 is needed to start`)
    return 1
  }
  if (target === undefined) {
    say('usage: node scripts/run.mjs <file.ts | tap | biome | tsc> [arguments]')
    return 1
  }
  const node = await setUp(target)
  return node === null ? 1 : run(node, target, args)
}

main().then((status) => process.exit(status))
