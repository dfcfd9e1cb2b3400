import t from 'tap'
import { createGate } from '../../cloud/broker-gate.ts'

function openGate(t: { teardown(done: () => void): void }) {
  const gate = createGate<object>({ maxBatches: 4, maxBytes: 1_000, maxWaitingBytes: 1_000, clockMs: () => 0 })
  t.teardown(gate.close)
  const press = {}
  let taken = 0
  const admit = () => {
    const payload = new Uint8Array(8)
    gate.admit(press, payload, () => (taken += 1))
    return payload
  }
  return { gate, admit, taken: () => taken }
}

t.test('what was on its way to a receiver that went takes no room at the next one', (t) => {
  const { gate, admit, taken } = openGate(t)
  gate.setReceiver({})
  for (let batch = 0; batch < 4; batch++) admit()
  gate.setReceiver(null)
  t.match(gate.figures(), { passing: 0, passingBytes: 0 })
  gate.setReceiver({})
  admit()
  t.equal(taken(), 5, 'the next batch passes at once')
  t.match(gate.figures(), { passing: 1, passingBytes: 8, waiting: 0 })
  t.end()
})

t.test('what was on its way and is written to the next receiver counts until it is answered', (t) => {
  const { gate, admit } = openGate(t)
  gate.setReceiver({})
  const late = admit()
  gate.setReceiver({})
  gate.sent(late)
  gate.sent(new Uint8Array(8))
  t.match(gate.figures(), { passing: 1, passingBytes: 8 }, 'what was never admitted does not count')
  gate.answered()
  t.match(gate.figures(), { passing: 0, passingBytes: 0 })
  t.end()
})
