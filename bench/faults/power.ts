// A machine of one process whose power can be cut: its folder, and the mirror of what was synced (powercut.c).
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  cpSync,
  ftruncateSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync
} from 'node:fs'
import { join } from 'node:path'
import type { Random } from '../oracle/random.ts'
import { makeFolder } from './bed.ts'
import { CHECKOUT } from './program.ts'

export type Power = {
  /** For the process whose data folder is `folder`. */
  env: Record<string, string>
  folder: string
  /**
   * The process was killed: the folder becomes what the disk would hold. `survival`: the probability that a sector which was
   * written and not synced is there all the same; 0: none is. Returns how many sectors were lost.
   */
  cut(survival: number, random: Random): number
}

const SECTOR_BYTES = 512
const COMPILERS = ['cc', 'gcc', 'clang']

const compiler = COMPILERS.find((name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0)

export function missingCompiler(): string | null {
  if (process.platform !== 'linux') return 'the power cut is made by preloading a library, which is for Linux only'
  return compiler === undefined ? `there is no C compiler (${COMPILERS.join(', ')})` : null
}

/** `folder`: of the fault; the library is compiled into it. `syncMs`: how long each sync takes. */
export function createPower(folder: string, syncMs: number): Power {
  if (compiler === undefined) throw new Error('there is no C compiler')
  const library = join(makeFolder(folder), 'powercut.so')
  const args = ['-O2', '-Wall', '-shared', '-fPIC', '-o', library, join(CHECKOUT, 'bench/faults/powercut.c'), '-ldl']
  const { status, stderr } = spawnSync(compiler, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`powercut.c can't be compiled: ${stderr}`)
  const data = makeFolder(folder, 'edge')
  const mirror = makeFolder(folder, 'mirror')
  return {
    env: { LD_PRELOAD: library, POWERCUT_ROOT: data, POWERCUT_MIRROR: mirror, POWERCUT_SYNC_MS: String(syncMs) },
    folder: data,
    cut(survival, random) {
      let lost = 0
      for (const name of readdirSync(data)) {
        const unsynced = readFileSync(join(data, name))
        const kept = readdirSync(mirror).includes(name) ? readFileSync(join(mirror, name)) : null
        lost += mix(unsynced, kept, survival, random, join(mirror, name))
      }
      rmSync(data, { recursive: true })
      cpSync(mirror, data, { recursive: true })
      return lost
    }
  }
}

/** Writes some of the sectors that differ into the synced file; how many were left out. */
function mix(unsynced: Buffer, synced: Buffer | null, survival: number, random: Random, path: string): number {
  let lost = 0
  const survivors: number[] = []
  for (let at = 0; at < unsynced.length; at += SECTOR_BYTES) {
    const sector = unsynced.subarray(at, at + SECTOR_BYTES)
    if (synced !== null && sector.equals(synced.subarray(at, at + SECTOR_BYTES))) continue
    if (synced !== null && random.chance(survival)) survivors.push(at)
    else lost += 1
  }
  if (survivors.length === 0) return lost
  const file = openSync(path, 'r+')
  try {
    for (const at of survivors) {
      if (fstatSync(file).size < at) ftruncateSync(file, at)
      const sector = unsynced.subarray(at, at + SECTOR_BYTES)
      writeSync(file, sector, 0, sector.length, at)
    }
  } finally {
    closeSync(file)
  }
  return lost
}
