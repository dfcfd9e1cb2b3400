// What is known of a server from its lock file and the process table.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** The server that holds `lock` (a postmaster.pid) for `cluster`, or null when the lock is a dead one's. */
export function runningServer(lock: string, cluster: string): { pid: number; parentPid: number } | null {
  const pid = Number.parseInt(readFileSync(lock, 'utf8'), 10)
  if (!(pid > 1)) return null
  const found = describeProcess(pid)
  return found?.command.includes(cluster) ? { pid, parentPid: found.parentPid } : null
}

/** Whether the process is there; one that has ended and wasn't waited for counts as gone. */
export function isRunning(pid: number): boolean {
  const found = describeProcess(pid)
  return found !== null && found.command !== ''
}

/** Parent and command line of a process, null when it is gone. */
function describeProcess(pid: number): { parentPid: number; command: string } | null {
  try {
    if (process.platform === 'linux') {
      // proc(5): the parent is the second field after the name, which is in brackets and may hold any character.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const parentPid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
      return { parentPid, command: readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ') }
    }
    const line = execFileSync('ps', ['-o', 'ppid=', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).trim()
    const [, parent = '', command = ''] = /^(\d+)\s+(.*)$/s.exec(line) ?? []
    return { parentPid: Number(parent), command }
  } catch {
    return null
  }
}
