// Both pages in a real browser (Debian's Chromium), as a person sees them.
import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import type { Browser, Page } from 'playwright-core'
import t from 'tap'
import type { Test } from 'tap'
import { connectSensor } from '../../helpers/edge.ts'
import { drained, readings, startLine } from '../../helpers/line.ts'

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path)
)
const skip =
  executablePath !== undefined || process.env['MILLRACE_NO_SKIP'] === '1' ? false : 'no Chromium is installed'

async function openBrowser(t: Test): Promise<Browser> {
  if (executablePath === undefined) throw new Error('no Chromium is installed')
  const browser = await chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync'
    ]
  })
  t.teardown(() => browser.close())
  return browser
}

/** A page; whatever it logs as an error, or asks of another host, fails the test. */
async function openPage(t: Test, browser: Browser, url: string, width: number): Promise<Page> {
  const page = await browser.newPage({ viewport: { width, height: 900 } })
  page.on('console', (message) => {
    if (message.type() === 'error') t.fail(`the page logged: ${message.text()}`)
  })
  page.on('pageerror', (error) => t.fail(`the page threw: ${error.message}`))
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:'))
      t.fail(`the page asked for ${request.url()}`)
  })
  await page.goto(url)
  return page
}

const text = (page: Page) => page.locator('body').innerText()

t.test('both pages show what moves, refresh themselves, and fit a phone', { skip }, async (t) => {
  const { bridge, edge } = await startLine(t, { gatewayId: 'press-hall' })
  const sensor = await connectSensor(t, edge.brokerUrl)
  const sent = readings(6, 20)
  await Promise.all(sent.slice(0, 60).map(({ topic, payload }) => sensor.publishAsync(topic, payload, { qos: 1 })))
  await sensor.publishAsync('plant/<img src=x onerror=alert(1)>', '"<b>bold</b>"', { qos: 1 })
  await drained(edge)
  const browser = await openBrowser(t)

  const edgePage = await openPage(t, browser, `http://127.0.0.1:${edge.httpPort}/`, 1_200)
  await edgePage.getByText('plant/line-1/press-0/temperature').first().waitFor()
  await edgePage.getByText('press-hall').first().waitFor()
  t.match(await text(edgePage), /<b>bold<\/b>/, 'a value is text')
  t.equal(await edgePage.locator('img').count(), 0, 'a topic is text')
  await edgePage
    .getByText(/\b61\b/)
    .first()
    .waitFor()
  await Promise.all(sent.slice(60).map(({ topic, payload }) => sensor.publishAsync(topic, payload, { qos: 1 })))
  await edgePage
    .getByText(/\b121\b/)
    .first()
    .waitFor()
  t.pass('the figures follow without a reload')

  const bridgePage = await openPage(t, browser, `${bridge.url}/`, 1_200)
  await bridgePage.getByText('press-hall').first().waitFor()
  await bridgePage
    .getByText(/balanced/i)
    .first()
    .waitFor()
  t.match(await text(bridgePage), /PostgreSQL/i)

  for (const [name, url] of [
    ['edge', edgePage.url()],
    ['bridge', bridgePage.url()]
  ] as const) {
    const phone = await openPage(t, browser, url, 390)
    await phone.getByText('press-hall').first().waitFor()
    const wide = await phone.evaluate('document.documentElement.scrollWidth')
    t.ok(Number(wide) <= 390, `the ${name}’s page is ${wide} px wide on a phone`)
  }

  // Pages of the bridge would log that it doesn't answer.
  for (const page of browser.contexts().flatMap((context) => context.pages())) if (page !== edgePage) await page.close()
  await bridge.close()
  await edgePage
    .getByText(/uplink/i)
    .first()
    .waitFor()
  await edgePage
    .getByText(/down|degraded|lost|refused/i)
    .first()
    .waitFor({ timeout: 20_000 })
  t.pass('the edge’s page says that the cloud is away')
})
