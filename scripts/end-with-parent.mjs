// Preloaded into what `run.mjs` starts: ends this process in order when that one is gone without a word.
// Descriptor 3 is a pipe that nobody writes to and only the parent holds, so its end is the parent's end.
import { Socket } from 'node:net'
import { isMainThread } from 'node:worker_threads'

if (isMainThread) {
  const parent = new Socket({ fd: 3, readable: true, writable: false })
  parent.on('error', () => undefined)
  parent.on('close', () => process.kill(process.pid, 'SIGTERM'))
  parent.resume()
  parent.unref()
}
