// The buffer's SQLite file: its tables, and how it is opened.
//
// WAL with synchronous=FULL: a commit that returned survives a power cut. The setting is read back at every opening, because
// better-sqlite3's default in WAL mode is NORMAL, which loses acknowledged commits.
import { statSync } from 'node:fs'
import Database from 'better-sqlite3'
import { AppError, codeOf, messageOf } from '../../shared/errors.ts'

export type BufferFile = Database.Database

/** Small pages: a commit of 20 rows rewrites whole pages, so their size decides the wear of an SD card (bench/wear). */
const PAGE_BYTES = 1_024

/** The WAL is written back when it has this size, bytes: a large one writes a page less often, a small buffer can't afford it. */
export function walBytesOf(maxBytes: number): number {
  return Math.min(8 * 2 ** 20, Math.floor(maxBytes / 16))
}

const CACHE_KIB = 4_096
const APPLICATION_ID = 0x4d_69_6c_6c // 'Mill'
const FORMAT = 1

const TABLES = `
  CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) WITHOUT ROWID;

  -- The sums and the chain of each epoch and lane. Only the current epoch's rows grow; older ones are kept for the record.
  CREATE TABLE lanes (
    epoch TEXT NOT NULL,
    lane TEXT NOT NULL,
    received INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    accepted INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    evicted INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0,
    cloud_duplicates INTEGER NOT NULL DEFAULT 0,
    dead_lettered INTEGER NOT NULL DEFAULT 0,
    next_seq INTEGER NOT NULL,
    -- The highest arrival time that was given to a reading without one of its own, µs.
    stamped INTEGER NOT NULL DEFAULT 0,
    sealed_seq INTEGER NOT NULL,
    last_batch INTEGER NOT NULL DEFAULT 0,
    last_digest BLOB NOT NULL,
    PRIMARY KEY (epoch, lane)
  ) WITHOUT ROWID;

  CREATE TABLE sensors (
    ref INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    type TEXT,
    unit TEXT
  );

  -- The lane 'readings': each seq is a row of readings or of rejects.
  CREATE TABLE readings (
    seq INTEGER PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    sensor INTEGER NOT NULL,
    received INTEGER NOT NULL,
    quality INTEGER NOT NULL,
    value
  );
  -- The dedupe key. Time first: neighbours in time share pages, and one commit dirties few of them.
  CREATE UNIQUE INDEX readings_key ON readings (timestamp, sensor);

  CREATE TABLE rejects (
    seq INTEGER PRIMARY KEY,
    record BLOB NOT NULL
  );

  -- The lane 'maintenance'.
  CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
  );

  CREATE TABLE batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch TEXT NOT NULL,
    lane TEXT NOT NULL,
    batch INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    records INTEGER NOT NULL,
    wire_bytes INTEGER NOT NULL,
    received INTEGER NOT NULL,
    digest BLOB NOT NULL,
    -- 0: waits; 1: acknowledged; 2: damaged, kept for a person.
    acknowledged INTEGER NOT NULL DEFAULT 0,
    UNIQUE (epoch, lane, batch)
  );
  CREATE INDEX batches_pending ON batches (lane, id) WHERE acknowledged = 0;

  CREATE TABLE wires (
    id INTEGER PRIMARY KEY,
    wire BLOB NOT NULL
  );

  -- QoS 2 packets answered with PUBREC and not yet released, per client of a door.
  CREATE TABLE packets (
    client TEXT NOT NULL,
    packet INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (client, packet)
  ) WITHOUT ROWID;
`

/**
 * Opens the buffer file, making it when it is absent, and locks it for this process.
 * @throws AppError `buffer_in_use`; `buffer_foreign` when it is another program's or a newer version's; `buffer_broken` when it
 * can't be read or is shorter than its header says.
 */
export function openBufferFile(path: string, maxBytes: number, synchronous: 'FULL' | 'NORMAL' = 'FULL'): BufferFile {
  const db = new Database(path, { timeout: 0 })
  try {
    // One process only: the sums and the chain's head are kept in memory. It also spares the shared-memory file.
    db.pragma('locking_mode = EXCLUSIVE')
    checkHeader(db, path)
    if (db.pragma('user_version', { simple: true }) === 0) {
      db.pragma(`page_size = ${PAGE_BYTES}`)
      db.pragma('journal_mode = WAL')
      db.pragma(`application_id = ${APPLICATION_ID}`)
      db.transaction(() => {
        db.exec(TABLES)
        db.pragma(`user_version = ${FORMAT}`)
      })()
    }
    db.pragma('journal_mode = WAL')
    db.pragma(`synchronous = ${synchronous}`)
    if (synchronous === 'FULL' && db.pragma('synchronous', { simple: true }) !== 2) {
      throw new AppError('buffer_broken', `${path}: synchronous=FULL was not taken; without it a power cut loses data`)
    }
    db.pragma('foreign_keys = OFF')
    db.pragma(`cache_size = -${CACHE_KIB}`)
    db.pragma('temp_store = MEMORY')
    db.pragma(`journal_size_limit = ${walBytesOf(maxBytes)}`)
    const pageBytes = Number(db.pragma('page_size', { simple: true }))
    db.pragma(`wal_autocheckpoint = ${Math.max(16, Math.floor(walBytesOf(maxBytes) / pageBytes))}`)
    db.pragma(`max_page_count = ${Math.max(64, Math.floor(maxBytes / pageBytes))}`)
    return db
  } catch (error) {
    db.close()
    throw translated(error, path)
  }
}

function translated(error: unknown, path: string): unknown {
  const code = codeOf(error) ?? ''
  if (code.startsWith('SQLITE_BUSY')) {
    return new AppError('buffer_in_use', `${path}: is in use by another edge`, {
      hint: 'stop the other one or give EDGE_DATA_DIR another folder'
    })
  }
  if (code === 'SQLITE_NOTADB' || code.startsWith('SQLITE_CORRUPT')) {
    return new AppError('buffer_broken', `${path}: ${messageOf(error)}`, { cause: error })
  }
  return error
}

function checkHeader(db: BufferFile, path: string): void {
  const version = Number(db.pragma('user_version', { simple: true }))
  const application = Number(db.pragma('application_id', { simple: true }))
  if (version === 0 && application === 0) return
  if (application !== APPLICATION_ID) {
    throw new AppError('buffer_foreign', `${path}: is an SQLite file of another program`, {
      hint: 'give EDGE_DATA_DIR another folder'
    })
  }
  if (version !== FORMAT) {
    throw new AppError('buffer_foreign', `${path}: has format ${version}, this program reads ${FORMAT}`, {
      hint: 'start the version of Millrace that wrote it'
    })
  }
  const expectedBytes =
    Number(db.pragma('page_count', { simple: true })) * Number(db.pragma('page_size', { simple: true }))
  const walBytes = sizeOf(`${path}-wal`)
  if (walBytes === 0 && sizeOf(path) < expectedBytes) {
    throw new AppError(
      'buffer_broken',
      `${path}: has ${sizeOf(path)} bytes, its header says ${expectedBytes}: it was cut`
    )
  }
}

/** A file's size in bytes; 0 when it isn't there. */
export function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}
