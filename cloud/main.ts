// `npm run bridge`: takes the edges' batches from the broker into the database.
import { AppError, messageOf } from '../shared/errors.ts'
import { openLog } from '../shared/log.ts'
import { closeOnSignal, createClosers } from '../shared/service.ts'
import { startBridge } from './bridge.ts'
import { readBridgeSettings } from './config.ts'

try {
  await main()
} catch (error) {
  if (!(error instanceof AppError)) throw error
  process.stderr.write(`bridge: ${error.message}${error.hint === null ? '' : `\n${error.hint}`}\n`)
  process.exit(1)
}

async function main(): Promise<void> {
  const settings = readBridgeSettings(process.env)
  const log = openLog({ service: 'bridge', ...settings.log })
  const closers = createClosers(log)
  closeOnSignal(closers, log)
  const bridge = await startBridge(settings, {
    log,
    onFatal(error) {
      process.stderr.write(`bridge: ${messageOf(error)}\n`)
      process.exit(1)
    }
  })
  closers.add('bridge', bridge.close)
  log.info({ httpPort: bridge.httpPort, brokerPort: bridge.brokerPort }, 'bridge runs')
}
