// Full TimescaleDB on a server: TEST_DATABASE_URL, or the official image in Docker. MILLRACE_NO_SKIP=1 does not count
// here: a machine without either can't install one.
import t from 'tap'
import { openDatabase } from '../../../cloud/database.ts'
import { silentLog } from '../../../shared/log.ts'
import { timescaleSuite } from '../../helpers/timescale-suite.ts'
import { timescaleUrl } from '../../helpers/timescale.ts'

const { url, reason } = await timescaleUrl(t)
await t.test('TimescaleDB on a server', { skip: reason ?? false }, async (t) => {
  const database = openDatabase({ url: url ?? '', max: 1, log: silentLog(), applicationName: 'timescale-test' })
  t.teardown(() => database.close())
  await database.withClient((client) => timescaleSuite(t, client))
})
