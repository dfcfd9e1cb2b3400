import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openBuffer } from '../../edge/buffer/buffer.ts'
import { silentLog } from '../../shared/log.ts'
import { dataFolder } from '../helpers/edge.ts'

function options(path: string) {
  return {
    path,
    gateway: 'plant-1',
    maxBytes: 64 * 2 ** 20,
    maxBatchBytes: 100_000,
    lingerMs: 200,
    dedupeWindowMs: 0,
    keepAckedMs: 0,
    log: silentLog(),
    onFatal(error: Error) {
      throw error
    }
  }
}

t.test('a file that can’t be opened for another reason than damage stays where it is', async (t) => {
  const folder = dataFolder(t)
  const path = join(folder, 'buffer.db')
  mkdirSync(path)
  await t.rejects(openBuffer(options(path)), { code: 'buffer_unopened', message: /left as it is/ })
  t.same(readdirSync(folder), ['buffer.db'])
})

t.test('a damaged file is set aside, and collection starts', async (t) => {
  const path = join(dataFolder(t), 'buffer.db')
  writeFileSync(path, 'no buffer at all, whatever its name says. '.repeat(100))
  const buffer = await openBuffer(options(path))
  t.teardown(() => buffer.close())
  t.match(buffer.opened.setAside, /buffer\.db\.broken-/)
  t.ok(existsSync(buffer.opened.setAside ?? ''))
  t.equal((await buffer.figures()).pendingRecords, 0)
})
