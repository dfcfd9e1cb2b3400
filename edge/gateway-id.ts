// Who this gateway is: the configured id, else one that was generated once and is kept in the data folder.
//
// The file says under which id the buffer's batches were sealed. It changes only after the buffer was told of a new id
// (`keep`), so that a crash between the two is seen again at the next start.
import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { AppError, codeOf, messageOf } from '../shared/errors.ts'
import { GATEWAY_ID } from '../shared/topics.ts'

export type GatewayIdentity = {
  gateway: string
  /** What the file said; null when there was none. */
  kept: string | null
  /** Writes the id to the file, if it isn't there. */
  keep(): void
}

/** @throws AppError `config_invalid` when the file holds something that is no id, `folder_unwritable` when it can't be read or written. */
export function readGatewayIdentity(folder: string, configured: string | null): GatewayIdentity {
  const path = join(folder, 'gateway-id')
  const kept = readKept(path)
  const gateway = configured ?? kept ?? `edge-${randomBytes(4).toString('hex')}`
  return {
    gateway,
    kept,
    keep() {
      if (kept !== gateway) writeKept(path, gateway)
    }
  }
}

function readKept(path: string): string | null {
  let text: string
  try {
    text = readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw new AppError('folder_unwritable', `${path} can't be read: ${messageOf(error)}`, {
      hint: 'make it readable for this user',
      cause: error
    })
  }
  if (GATEWAY_ID.test(text)) return text
  throw new AppError('config_invalid', `${path} holds no gateway id: ${JSON.stringify(text.slice(0, 80))}`, {
    hint: 'write the id of this gateway into it, or delete it and set EDGE_GATEWAY_ID'
  })
}

/** Whole or not at all, also in a power cut. */
function writeKept(path: string, gateway: string): void {
  const fresh = `${path}.new`
  try {
    const file = openSync(fresh, 'w', 0o600)
    try {
      writeSync(file, `${gateway}\n`)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(fresh, path)
    syncFolder(dirname(path))
  } catch (error) {
    throw new AppError('folder_unwritable', `${path} can't be written: ${messageOf(error)}`, {
      hint: 'make the data folder writable for this user or give EDGE_DATA_DIR another one',
      cause: error
    })
  }
}

/** Brings the new name to the disk: without it a power cut may leave the file under its old one. */
function syncFolder(folder: string): void {
  // Windows can't open a folder.
  if (process.platform === 'win32') return
  const handle = openSync(folder, 'r')
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}
