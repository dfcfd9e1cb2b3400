// The edge with a buffer that is not synced at each commit: the control of the power cut, which must lose what it acknowledged.
import { openLog } from '../../shared/log.ts'
import { closeOnSignal, createClosers } from '../../shared/service.ts'
import { readEdgeSettings } from '../../edge/config.ts'
import { startEdge } from '../../edge/edge.ts'

const settings = readEdgeSettings(process.env)
const log = openLog({ service: 'edge', ...settings.log })
const closers = createClosers(log)
closeOnSignal(closers, log)
const buffer = { ...settings.buffer, synchronous: 'NORMAL' as const }
const edge = await startEdge({ ...settings, buffer }, { log, onFatal: () => process.exit(1) })
closers.add('edge', () => edge.close())
