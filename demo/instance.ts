// One demo per data folder, by a file that names its process.
import { rmSync, writeFileSync } from 'node:fs'
import { AppError, codeOf, messageOf } from '../shared/errors.ts'
import { runningServer } from './postgres-process.ts'

/** Stands in the command line of every demo. */
const PROGRAM = 'demo/main.ts'

/**
 * Takes the folder for this process until `release`. The file of a demo that was killed is taken over, also when its
 * process id is another program's by now.
 * @throws AppError `buffer_in_use` (with the other’s process id) while another demo runs on it; `folder_unwritable`.
 */
export function takeFolder(file: string): { release(): void } {
  for (let tries = 1; ; tries += 1) {
    try {
      writeFileSync(file, `${process.pid}\n`, { flag: 'wx' })
      return { release: () => rmSync(file, { force: true }) }
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' || tries > 3) {
        throw new AppError('folder_unwritable', `can't write ${file}: ${messageOf(error)}`, {
          hint: 'correct the rights of that folder, or free space',
          cause: error
        })
      }
    }
    const other = ownerOf(file)
    if (other !== null) {
      throw new AppError('buffer_in_use', `the demo runs already in this checkout (process ${other})`, {
        hint: 'use that one, or end it with Ctrl-C in its terminal; npm run rows, npm run tasks and npm run seed work beside it'
      })
    }
    rmSync(file, { force: true })
  }
}

function ownerOf(file: string): number | null {
  try {
    const pid = runningServer(file, PROGRAM)?.pid ?? null
    return pid === process.pid ? null : pid
  } catch (error) {
    // The other one ended just now.
    if (codeOf(error) === 'ENOENT') return null
    throw error
  }
}
