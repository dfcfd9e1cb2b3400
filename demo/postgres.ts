// A PostgreSQL of our own, from npm, for the demo, the tests and the benches: loopback only, a password of its own.
//
// Guarantees
// - The data folder outlives any end of the server or of the process that started it; an unfinished initdb is done again.
// - Of one data folder at most one server runs. A server whose starter was killed is stopped and started anew; one whose
//   starter lives is left alone, and the second start fails.
// - The server isn't in the terminal's process group: Ctrl-C reaches only its starter, which stops it last.
// - It ends with its starter, unless that is killed with SIGKILL.
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { AppError, codeOf, messageOf } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { freePort } from './free-port.ts'
import { dataFolder, serverAccount, serverPrograms } from './postgres-account.ts'
import type { Account } from './postgres-account.ts'
import { isRunning, runningServer } from './postgres-process.ts'

export type PostgresServer = {
  /** With the password in it. */
  url: string
  port: number
  pid: number
  /** Where the data really lies; a later start with this folder goes on with it. */
  dataDir: string
  /**
   * `fast` ends the sessions and shuts down in order; `immediate` is a crash that the next start recovers from.
   * Does nothing when the server is gone already.
   */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
}

const USER = 'millrace'
const DATABASE = 'millrace'

/** How long a start, crash recovery included, and each step of a stop may take, ms. */
const START_TIMEOUT_MS = 120_000
const STOP_TIMEOUT_MS = 10_000

/** How long the remains of a killed server may hold its shared memory, and how often a start is tried meanwhile. */
const REMAINS_TRIES = 20
const REMAINS_PAUSE_MS = 250

/** A free port may be taken by another before the server listens on it. */
const PORT_TRIES = 5

/** The last lines of the server's log that an error shows. */
const SHOWN_LINES = 12

/**
 * Starts the server, on a new data folder after initdb (about 1 s, else 0.1 s).
 * `port` 0 or absent: any free one. `settings` go to the server as `-c name=value`.
 * @throws AppError `port_in_use`, `folder_unwritable`, `database_unsupported`, `database_unreachable` (the server's last words).
 */
export async function startPostgres(options: {
  dataDir: string
  port?: number
  log?: Log
  settings?: Record<string, string>
}): Promise<PostgresServer> {
  const settings = options.settings ?? {}
  const wanted = resolve(options.dataDir)
  const account = serverAccount(join(wanted, 'cluster'))
  const programs = serverPrograms(account)
  const dataDir = dataFolder(wanted, account)
  if (dataDir !== wanted) {
    options.log?.info(
      { dataDir, wanted, account: account?.name },
      'the database keeps its files where its account reaches them'
    )
  }
  const cluster = join(dataDir, 'cluster')
  const password = keepPassword(join(dataDir, 'password'))
  if (!existsSync(cluster))
    createCluster({ programs, dataDir, cluster, account, password, sync: settings['fsync'] !== 'off' })
  const starter = join(dataDir, 'starter')
  await endOrphan(cluster, starter, options.log)
  writeFileSync(starter, String(process.pid))

  let remainsTries = 0
  for (let portTries = 1; ; ) {
    const port = options.port === undefined || options.port === 0 ? await freePort() : options.port
    const outcome = await run({ programs, cluster, account, port, settings, log: options.log })
    if (outcome.ok) {
      const { child, pid } = outcome
      const url = `postgresql://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`
      return { url, port, pid, dataDir, stop: (mode = 'fast') => stop(child, mode) }
    }
    const words = outcome.lines.join('\n')
    if (words.includes('pre-existing shared memory block') && remainsTries < REMAINS_TRIES) {
      remainsTries += 1
      await new Promise((next) => setTimeout(next, REMAINS_PAUSE_MS))
    } else if (words.includes('Address already in use')) {
      if (port === options.port || portTries >= PORT_TRIES) {
        throw new AppError('port_in_use', `port ${port} is in use, the database can't listen on it`, {
          hint: 'stop the other program, or choose another port'
        })
      }
      portTries += 1
    } else {
      throw new AppError('database_unreachable', `PostgreSQL did not start on ${cluster}:\n${words}`)
    }
  }
}

type Outcome = { ok: true; child: ChildProcess; pid: number } | { ok: false; lines: string[] }

/** One try to start the server; resolves when it takes connections or has ended. */
function run(options: {
  programs: string
  cluster: string
  account: Account
  port: number
  settings: Record<string, string>
  log: Log | undefined
}): Promise<Outcome> {
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    port: String(options.port),
    unix_socket_directories: '',
    timezone: 'UTC',
    log_timezone: 'UTC',
    ...options.settings
  }
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = spawn(join(options.programs, 'bin', 'postgres'), ['-D', options.cluster, ...args], {
    ...identity(options.account),
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true
  })
  const endWithUs = () => child.kill('SIGINT')
  process.on('exit', endWithUs)
  return new Promise((resolve) => {
    const lines: string[] = []
    const fail = () => resolve({ ok: false, lines })
    const timeout = setTimeout(() => {
      lines.push(`it was not ready after ${START_TIMEOUT_MS} ms`)
      child.kill('SIGQUIT')
    }, START_TIMEOUT_MS)
    child.once('error', (error) => {
      lines.push(messageOf(error))
      fail()
    })
    child.once('close', () => {
      clearTimeout(timeout)
      process.off('exit', endWithUs)
      fail()
    })
    createInterface({ input: child.stderr }).on('line', (line) => {
      options.log?.debug({ line }, 'postgres')
      lines.push(line)
      if (lines.length > SHOWN_LINES) lines.shift()
      if (!line.includes('database system is ready to accept connections') || child.pid === undefined) return
      clearTimeout(timeout)
      resolve({ ok: true, child, pid: child.pid })
    })
  })
}

async function stop(child: ChildProcess, mode: 'fast' | 'immediate'): Promise<void> {
  const steps: NodeJS.Signals[] = mode === 'fast' ? ['SIGINT', 'SIGQUIT', 'SIGKILL'] : ['SIGQUIT', 'SIGKILL']
  const ended = new Promise<true>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(true)
    else child.once('exit', () => resolve(true))
  })
  for (const signal of steps) {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), STOP_TIMEOUT_MS)
    })
    const done = await Promise.race([ended, late])
    clearTimeout(timer)
    if (done) return
  }
}

/** Makes the cluster beside its place and moves it there when it is whole. */
function createCluster(options: {
  programs: string
  dataDir: string
  cluster: string
  account: Account
  password: string
  sync: boolean
}): void {
  const unfinished = mkdtempSync(join(options.dataDir, 'cluster.'))
  const passwordFile = `${unfinished}.password`
  try {
    writeFileSync(passwordFile, options.password, { mode: 0o600 })
    if (options.account !== null) {
      chownSync(unfinished, options.account.uid, options.account.gid)
      chownSync(passwordFile, options.account.uid, options.account.gid)
    }
    const initdb = [
      '-D',
      unfinished,
      '-U',
      USER,
      '-E',
      'UTF8',
      '--locale=C',
      '--auth=scram-sha-256',
      `--pwfile=${passwordFile}`
    ]
    const sync = options.sync ? [] : ['--no-sync']
    const bin = (name: string) => join(options.programs, 'bin', name)
    runToEnd(bin('initdb'), [...initdb, ...sync], options.account)
    runToEnd(
      bin('postgres'),
      ['--single', '-D', unfinished, 'postgres'],
      options.account,
      `CREATE DATABASE ${DATABASE};\n`
    )
    renameSync(unfinished, options.cluster)
  } catch (error) {
    // ENOTEMPTY: another start was faster; the server's own lock settles the rest.
    if (codeOf(error) !== 'ENOTEMPTY') throw error
  } finally {
    rmSync(passwordFile, { force: true })
    rmSync(unfinished, { recursive: true, force: true })
  }
}

function runToEnd(program: string, args: string[], account: Account, input = ''): void {
  const { status, error, stdout, stderr } = spawnSync(program, args, { ...identity(account), input, encoding: 'utf8' })
  if (error === undefined && status === 0) return
  throw new AppError('database_unreachable', `${program} failed: ${error?.message ?? `${stdout}${stderr}`.trim()}`, {
    cause: error
  })
}

/** Who a program of the server runs as, and in what surroundings: none of the caller's PG… variables reach it. */
function identity(account: Account): { uid?: number; gid?: number; cwd: string; env: NodeJS.ProcessEnv } {
  const surroundings = {
    cwd: '/',
    env: { PATH: process.env['PATH'], LC_ALL: 'C', SystemRoot: process.env['SystemRoot'] }
  }
  return account === null ? surroundings : { uid: account.uid, gid: account.gid, ...surroundings }
}

/** The password kept in `file`, made at the first start. */
function keepPassword(file: string): string {
  try {
    writeFileSync(file, randomBytes(24).toString('base64url'), { mode: 0o600, flag: 'wx' })
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') {
      throw new AppError('folder_unwritable', `can't write to ${file}: ${messageOf(error)}`, {
        hint: 'free space, or correct the rights of that folder'
      })
    }
  }
  return readFileSync(file, 'utf8').trim()
}

/**
 * Stops a server on `cluster` that outlived its starter, and removes a lock whose process id now is another program's.
 * @throws AppError `database_unreachable` when the starter lives.
 */
async function endOrphan(cluster: string, starter: string, log: Log | undefined): Promise<void> {
  const lock = join(cluster, 'postmaster.pid')
  if (!existsSync(lock)) return
  const server = runningServer(lock, cluster)
  if (server === null) {
    rmSync(lock, { force: true })
    return
  }
  // A process whose parent has ended gets another parent, so this holds even when process ids come round again.
  const starterLives = !existsSync(starter) || readFileSync(starter, 'utf8') === String(server.parentPid)
  if (starterLives) {
    throw new AppError('database_unreachable', `the database on ${cluster} runs already (process ${server.pid})`, {
      hint: 'stop the other one, or choose another data folder'
    })
  }
  log?.info({ pid: server.pid }, 'stopping a database that outlived its starter')
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
    if (!isRunning(server.pid)) return
    process.kill(server.pid, signal)
    const deadline = performance.now() + STOP_TIMEOUT_MS
    while (isRunning(server.pid) && performance.now() < deadline) await new Promise((next) => setTimeout(next, 50))
  }
}
