// The edge's data folder: 0700, made with its parents.
import { access, constants, mkdir } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { AppError, codeOf, messageOf } from '../shared/errors.ts'

/** @throws AppError `folder_unwritable` */
export async function prepareFolder(folder: string): Promise<void> {
  try {
    // Not with `recursive`: Node.js never comes back from it below a folder that takes no entries, such as /proc.
    const missing: string[] = []
    for (let path = folder; !existsSync(path) && path !== dirname(path); path = dirname(path)) missing.unshift(path)
    for (const path of missing) await makeOne(path)
    await access(folder, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    throw new AppError('folder_unwritable', `the data folder ${folder} can't be used: ${messageOf(error)}`, {
      hint: 'make it writable for this user or give EDGE_DATA_DIR another one',
      cause: error
    })
  }
}

/** Another start may make it at the same moment. */
async function makeOne(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
  }
}
