// Errors that can be foreseen carry a code and, for operators, a way out. Everything else is internal: logged whole
// where it is handled, shown as nothing.

export type ErrorCode =
  | 'config_invalid'
  | 'port_in_use'
  | 'folder_unwritable'
  | 'buffer_full'
  | 'buffer_broken'
  | 'buffer_foreign'
  | 'buffer_unopened'
  | 'buffer_in_use'
  | 'closed'
  | 'batch_unreadable'
  | 'batch_wrong_digest'
  | 'batch_unsupported_version'
  | 'database_unreachable'
  | 'database_unsupported'
  | 'schema_missing'
  | 'schema_newer'
  | 'schema_changed'
  | 'not_found'
  | 'illegal_transition'
  | 'connection_lost'
  | 'connection_refused'

export class AppError extends Error {
  readonly code: ErrorCode
  /** What an operator can do about it; one sentence. */
  readonly hint: string | null

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AppError'
    this.code = code
    this.hint = options.hint ?? null
  }
}

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The driver's code (SQLSTATE, SQLite or errno), or null. */
export function codeOf(error: unknown): string | null {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string')
    return error.code
  return null
}
