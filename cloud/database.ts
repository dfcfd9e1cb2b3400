// The pool of connections to PostgreSQL, and how each session is set.
//
// Guarantees: a session commits synchronously and at READ COMMITTED; nothing waits for ever, neither for a lock, a
// statement, a client that fell silent in a transaction, nor a server that fell silent in an answer; an error of an
// idle connection is logged and never thrown; a connection that broke, or whose state is unknown, is not used again.
// Not for poolers in transaction mode: session settings are given at the start of a session.
import pg from 'pg'
import { AppError, messageOf } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { pause } from '../shared/retry.ts'
import { parseDatabaseUrl, redactUrl } from './database-url.ts'
import { sqlstateOf } from './sqlstate.ts'

export { normalizeDatabaseUrl, redactUrl } from './database-url.ts'
export { detectEngine } from './engine.ts'
export type { Engine, EngineKind } from './engine.ts'

/** What migrations need of a connection; a `pg` client is one. Without values a text may hold several statements. */
export type SqlClient = {
  query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<{ rows: Row[] }>
}

export type Client = pg.PoolClient

export type Database = {
  /** The address without its password, for messages. */
  readonly address: string
  /**
   * Lends a connection to `work`.
   * @throws AppError `database_unreachable` when none is to be had, `connection_lost` when it broke meanwhile,
   * `closed` after `close`; the server's errors as they are.
   */
  withClient<T>(work: (client: Client) => Promise<T>): Promise<T>
  /**
   * Runs `work` in one transaction: committed when it resolves, rolled back when it rejects. With `connection_lost`
   * nothing is known of the COMMIT: ask the database.
   */
  transaction<T>(work: (client: Client) => Promise<T>): Promise<T>
  /** Waits for the connections that are lent out, then ends all. Runs once. */
  close(): Promise<void>
}

const CONNECT_TIMEOUT_MS = 5_000
const STATEMENT_TIMEOUT_MS = 60_000
/** How long past the server's own time-out a silent server is borne before the connection is given up. */
const ANSWER_GRACE_MS = 15_000
/** How long a connection may take to answer after an error before it is given up. */
const ANSWER_AFTER_ERROR_MS = 5_000
const KEEP_ALIVE_MS = 10_000
const DEFAULT_MAX = 8

/** `int8`, the type of counts and sequence numbers. */
const INT8_OID = 20

const SESSION_SETTINGS: Record<string, string> = {
  default_transaction_isolation: 'read committed',
  synchronous_commit: 'on',
  lock_timeout: '10s',
  idle_in_transaction_session_timeout: '30s',
  TimeZone: 'UTC',
  // A bridge whose machine lost its power must not hold a ledger row: the server notices within 25 s.
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3'
}

/** The startup packet's `options`: spaces in a value are escaped by a backslash. */
function sessionOptions(ofUrl: string, statementTimeoutMs: number): string {
  const settings = { ...SESSION_SETTINGS, statement_timeout: `${statementTimeoutMs}ms` }
  const own = Object.entries(settings).map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
  return [ofUrl, ...own].filter((part) => part !== '').join(' ')
}

/** A number while that is exact; beyond 2^53 a bigint, which refuses to be mixed with numbers. */
function parseInt8(text: string): number | bigint {
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : BigInt(text)
}

const types = new pg.TypeOverrides()
types.setTypeParser(INT8_OID, parseInt8)

/**
 * Opens a pool; connects only when the first connection is asked for.
 * `statementTimeoutMs`: how long one statement may take, 60 s when absent; 0: for ever, as a migration may.
 * @throws AppError `config_invalid` for a URL that can't be read.
 */
export function openDatabase(options: {
  url: string
  max?: number
  log: Log
  applicationName: string
  statementTimeoutMs?: number
}): Database {
  const statementTimeoutMs = options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS
  const address = redactUrl(options.url)
  const { options: urlOptions, ...target } = parseDatabaseUrl(options.url)
  const pool = new pg.Pool({
    ...target,
    types,
    options: sessionOptions(urlOptions, statementTimeoutMs),
    application_name: options.applicationName,
    max: options.max ?? DEFAULT_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: statementTimeoutMs === 0 ? 0 : statementTimeoutMs + ANSWER_GRACE_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS
  })
  const broken = new WeakSet<pg.ClientBase>()
  let closing: Promise<void> | null = null

  // Not the error itself: the pool hangs the whole client on it.
  pool.on('error', (error) => {
    if (closing !== null) return
    options.log.warn({ reason: messageOf(error), sqlstate: sqlstateOf(error) }, 'idle database connection lost')
  })
  // The pool listens only to idle connections; one that is lent out would end the process with its error.
  pool.on('connect', (client) => {
    client.on('error', () => broken.add(client))
    client.on('end', () => broken.add(client))
  })

  async function borrow(): Promise<Client> {
    if (closing !== null) throw new AppError('closed', 'the database is closed')
    try {
      return await pool.connect()
    } catch (error) {
      throw new AppError('database_unreachable', `no connection to ${address}: ${reasonOf(error)}`, {
        hint: 'check that DATABASE_URL is right and that the server runs and accepts this login',
        cause: error
      })
    }
  }

  async function lend<T>(
    work: (client: Client) => Promise<T>,
    settle: (client: Client) => Promise<boolean>
  ): Promise<T> {
    const client = await borrow()
    let usable = true
    try {
      const result = await work(client)
      usable = client.getTransactionStatus() === 'I'
      return result
    } catch (error) {
      usable = !broken.has(client) && (await settle(client))
      if (usable || sqlstateOf(error) !== null) throw error
      throw new AppError('connection_lost', `the connection to ${address} was lost: ${messageOf(error)}`, {
        cause: error
      })
    } finally {
      client.release(!usable || broken.has(client))
    }
  }

  return {
    address,
    withClient(work) {
      return lend(work, isIdle)
    },
    transaction(work) {
      return lend(async (client) => {
        await client.query('BEGIN')
        const result = await work(client)
        const { command } = await client.query('COMMIT')
        // The server answers so, without an error, when a statement's error was swallowed on the way.
        if (command !== 'COMMIT')
          throw new Error(`COMMIT was answered with ${command}: the transaction had failed before`)
        return result
      }, rollBack)
    },
    close() {
      closing ??= pool.end()
      return closing
    }
  }
}

/** Whether the statement ends in time without an error: it can't while an earlier one still waits for its answer. */
async function answers(client: Client, statement: string): Promise<boolean> {
  const inTime = new AbortController()
  const answer = client.query(statement).then(
    () => true,
    () => false
  )
  const late = pause(ANSWER_AFTER_ERROR_MS, inTime.signal).then(() => false)
  return Promise.race([answer, late]).finally(() => inTime.abort())
}

/** Ends the transaction; false when the connection is of no more use. */
function rollBack(client: Client): Promise<boolean> {
  return answers(client, 'ROLLBACK')
}

/** Whether the connection is alive and was left outside any transaction. */
async function isIdle(client: Client): Promise<boolean> {
  return client.getTransactionStatus() === 'I' && (await answers(client, 'SELECT'))
}

/** What connecting failed with; Node gives an empty AggregateError when every address of a host refused. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.map(messageOf).join('; ')
  return messageOf(error)
}
