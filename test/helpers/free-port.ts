// The demo's way to a free port, for tests.
export { freePort } from '../../demo/free-port.ts'
