// The migration files: four digits and a name, applied in the order of their numbers and never changed afterwards.
//
// Markers stand in comments before the first statement:
//   -- no-transaction        one statement that can't run in a transaction. It is run again when the process ended
//                            before it was recorded, so it must bear that (IF NOT EXISTS).
//   -- only: apache, plain   the engines that need the file; recorded as skipped on the others.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ENGINE_KINDS } from './engine.ts'
import type { EngineKind } from './engine.ts'

export type Migration = {
  /** Four digits. */
  version: string
  /** The file's name. */
  file: string
  sql: string
  /** SHA-256 of the text with Unix line ends, hex: a checkout on Windows is no change. */
  checksum: string
  engines: readonly EngineKind[]
  inTransaction: boolean
}

const FILE_NAME = /^(\d{4})_[a-z0-9_]+\.sql$/

/**
 * The folder `migrations` beside the program, from source as from `dist`.
 * @throws Error when the program was copied without it.
 */
export function migrationsFolder(): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    const candidate = join(folder, 'migrations')
    if (existsSync(candidate)) return candidate
    if (dirname(folder) === folder) throw new Error(`no folder named migrations above ${import.meta.dirname}`)
  }
}

/**
 * All migrations, in order.
 * @throws Error for a name that isn't a migration's, a number used twice, a marker that can't be read.
 */
export async function readMigrations(folder: string): Promise<Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql')).sort()
  const migrations = await Promise.all(
    files.map(async (file) => parseMigration(file, await readFile(join(folder, file), 'utf8')))
  )
  for (const [index, migration] of migrations.entries()) {
    const next = migrations[index + 1]
    if (next?.version === migration.version)
      throw new Error(`two migrations have one number: ${migration.file}, ${next.file}`)
  }
  return migrations
}

function parseMigration(file: string, text: string): Migration {
  const version = FILE_NAME.exec(file)?.[1]
  if (version === undefined) throw new Error(`not a migration's name: ${file}; write 0001_lower_case_words.sql`)
  const sql = text.replaceAll('\r\n', '\n')
  const markers = markersOf(sql)
  return {
    version,
    file,
    sql,
    checksum: createHash('sha256').update(sql).digest('hex'),
    engines: enginesOf(file, markers),
    inTransaction: !markers.includes('no-transaction')
  }
}

/** The comment lines before the first statement, without their dashes. */
function markersOf(sql: string): string[] {
  const markers: string[] = []
  for (const line of sql.split('\n')) {
    const comment = /^\s*(?:--(.*))?$/.exec(line)
    if (comment === null) break
    markers.push((comment[1] ?? '').trim())
  }
  return markers
}

function enginesOf(file: string, markers: string[]): readonly EngineKind[] {
  const only = markers.find((marker) => marker.startsWith('only:'))
  if (only === undefined) return ENGINE_KINDS
  return only
    .slice('only:'.length)
    .split(',')
    .map((word) => {
      const kind = ENGINE_KINDS.find((candidate) => candidate === word.trim())
      if (kind === undefined) throw new Error(`${file}: unknown engine in its marker: ${word.trim()}`)
      return kind
    })
}
