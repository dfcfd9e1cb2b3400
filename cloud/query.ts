// A look at the database from a terminal: `npm run rows`, `npm run tasks`. One answer, or one line saying why not.
import { existsSync, readFileSync } from 'node:fs'
import { AppError, codeOf, messageOf } from '../shared/errors.ts'
import { silentLog } from '../shared/log.ts'
import { openDatabase } from './database.ts'
import type { Client } from './database.ts'
import { sqlstateOf } from './sqlstate.ts'

/** undefined_table */
const NO_TABLE = '42P01'

export type QuerySource = {
  /** Null: the database of the demo. */
  databaseUrl: string | null
  /** Where a running demo writes its database's URL. */
  demoUrlFile: string
}

/** @throws AppError `not_found` when there is neither a URL nor a demo */
export function databaseUrlOf({ databaseUrl, demoUrlFile }: QuerySource): string {
  if (databaseUrl !== null) return databaseUrl
  if (existsSync(demoUrlFile)) return readFileSync(demoUrlFile, 'utf8').trim()
  throw new AppError('not_found', 'no database to look at', {
    hint: 'set DATABASE_URL, or start the demo with npm start'
  })
}

/** @throws AppError, with what to do */
export async function look<T>(source: QuerySource, work: (client: Client) => Promise<T>): Promise<T> {
  const url = databaseUrlOf(source)
  const database = openDatabase({ url, max: 1, log: silentLog(), applicationName: 'millrace-query' })
  try {
    return await database.withClient(work)
  } catch (error) {
    if (sqlstateOf(error) === NO_TABLE) {
      throw new AppError('schema_missing', 'the database has no tables yet', {
        hint: 'run npm run migrate',
        cause: error
      })
    }
    if (source.databaseUrl === null && error instanceof AppError && error.code === 'database_unreachable') {
      const hint = 'the demo does not seem to run: start it with npm start, or set DATABASE_URL'
      throw new AppError('database_unreachable', error.message, { hint, cause: error })
    }
    throw error
  } finally {
    await database.close()
  }
}

/** Runs a command of the terminal: its text to standard output, or one line to standard error and exit status 1. */
export async function runCommand(name: string, usage: string, command: () => Promise<string>): Promise<void> {
  try {
    process.stdout.write(await command())
  } catch (error) {
    const wrongArguments = codeOf(error)?.startsWith('ERR_PARSE_ARGS') === true
    const hint = wrongArguments ? usage : error instanceof AppError ? error.hint : null
    process.stderr.write(`${name}: ${messageOf(error)}${hint === null ? '' : `; ${hint}`}\n`)
    process.exitCode = 1
  }
}

/** A whole number of lines to show. @throws AppError `config_invalid` */
export function limitOf(text: string): number {
  const limit = Number(text)
  if (Number.isInteger(limit) && limit >= 1 && limit <= 100_000) return limit
  throw new AppError('config_invalid', `--limit is ${JSON.stringify(text)}, must be 1 to 100000`)
}
