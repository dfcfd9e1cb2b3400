// The database's address. People paste the URL that their other tools use: a driver's name in the scheme
// (`postgresql+asyncpg`), `ssl` where libpq says `sslmode`, parameters of that driver alone. All of it is understood.
// The meaning of sslmode is libpq's: `require` encrypts without checking the server, `verify-full` checks it.
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { AppError, messageOf } from '../shared/errors.ts'

export type Address = {
  /** A host name, or the folder of a Unix socket. */
  host: string
  port: number
  user: string | undefined
  password: string | undefined
  database: string | undefined
  /** Server options of the URL, `-c name=value …`; empty when there are none. */
  options: string
  ssl: ConnectionOptions | false
}

const SCHEME = /^(?:postgres|postgresql|timescaledb)(?:\+[a-z0-9_]+)?:\/\//i
const DEFAULT_PORT = 5432

/** Values of `ssl` and `sslmode`, also of other drivers, and libpq's word for each. */
const SSL_MODES = new Map([
  ['disable', 'disable'],
  ['false', 'disable'],
  ['0', 'disable'],
  ['off', 'disable'],
  ['allow', 'allow'],
  ['prefer', 'prefer'],
  ['require', 'require'],
  ['no-verify', 'require'],
  ['verify-ca', 'verify-ca'],
  ['verify-full', 'verify-full'],
  ['true', 'verify-full'],
  ['1', 'verify-full'],
  ['on', 'verify-full']
])

/** What libpq and we both take from a URL's query; parameters of other drivers are left out. */
const KEPT = ['host', 'port', 'user', 'password', 'sslrootcert', 'sslcert', 'sslkey', 'options', 'connect_timeout']

function parse(text: string): URL {
  const trimmed = text.trim()
  if (SCHEME.test(trimmed) && URL.canParse(trimmed)) return new URL(trimmed)
  throw new AppError('config_invalid', `DATABASE_URL is not a PostgreSQL URL: ${redactUrl(text)}`, {
    hint: 'write postgresql://user:password@host:5432/database, special characters percent-encoded (@ is %40, # is %23)'
  })
}

function sslModeOf(url: URL): string | null {
  const given = url.searchParams.get('sslmode') ?? url.searchParams.get('ssl')
  if (given === null) return null
  const mode = SSL_MODES.get(given.toLowerCase())
  if (mode !== undefined) return mode
  throw new AppError('config_invalid', `DATABASE_URL has an unknown ssl mode: ${given}`, {
    hint: 'write sslmode=disable, require, verify-ca or verify-full'
  })
}

/**
 * The same address as libpq's tools take it: `postgresql://…?sslmode=…`.
 * @throws AppError `config_invalid`, never with the password in it.
 */
export function normalizeDatabaseUrl(text: string): string {
  const url = parse(text)
  const mode = sslModeOf(url)
  const query = new URLSearchParams()
  if (mode !== null) query.set('sslmode', mode)
  for (const name of KEPT) {
    const value = url.searchParams.get(name)
    if (value !== null) query.set(name, value)
  }
  const kept = query.size === 0 ? '' : `?${query.toString().replaceAll('+', '%20')}`
  const login = url.username === '' ? '' : `${url.username}${url.password === '' ? '' : `:${url.password}`}@`
  return `postgresql://${login}${url.host}${url.pathname}${kept}`
}

/** The URL for logs and messages: the password is left out, wherever it stands. */
export function redactUrl(text: string): string {
  const trimmed = text.trim()
  if (!SCHEME.test(trimmed) || !URL.canParse(trimmed)) return '[unreadable url]'
  const url = new URL(trimmed)
  if (url.password !== '') url.password = '***'
  for (const name of ['password', 'sslpassword']) if (url.searchParams.has(name)) url.searchParams.set(name, '***')
  return url.toString()
}

function readFile(name: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new AppError('config_invalid', `DATABASE_URL names a file in ${name} that can't be read: ${messageOf(error)}`)
  }
}

/** TLS options of Node for libpq's modes. `prefer` and `allow` ask for nothing, so they get plain text. */
function sslOf(url: URL): ConnectionOptions | false {
  const mode = sslModeOf(url)
  if (mode === null || mode === 'disable' || mode === 'allow' || mode === 'prefer') return false
  const files: ConnectionOptions = {}
  const root = url.searchParams.get('sslrootcert')
  const certificate = url.searchParams.get('sslcert')
  const key = url.searchParams.get('sslkey')
  const ownRoot = root !== null && root !== 'system'
  if (ownRoot) files.ca = readFile('sslrootcert', root)
  if (certificate !== null) files.cert = readFile('sslcert', certificate)
  if (key !== null) files.key = readFile('sslkey', key)
  if (mode === 'verify-full' || root === 'system') return files
  if (mode === 'require' && !ownRoot) return { ...files, rejectUnauthorized: false }
  return { ...files, checkServerIdentity: () => undefined }
}

/**
 * The parts of the address, for the driver.
 * @throws AppError `config_invalid`
 */
export function parseDatabaseUrl(text: string): Address {
  const url = parse(text)
  const query = url.searchParams
  const port = query.get('port') ?? url.port
  return {
    host: query.get('host') ?? (decodeURIComponent(url.hostname).replace(/^\[(.+)\]$/, '$1') || 'localhost'),
    port: port === '' ? DEFAULT_PORT : Number(port),
    user: query.get('user') ?? (decodeURIComponent(url.username) || undefined),
    password: query.get('password') ?? (decodeURIComponent(url.password) || undefined),
    database: decodeURIComponent(url.pathname.slice(1)) || undefined,
    options: query.get('options') ?? '',
    ssl: sslOf(url)
  }
}
