// .env.example against the services' schemas. A new service joins by its schema in SCHEMAS.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { z } from 'zod'
import { bridgeConfig, migrateConfig } from '../../cloud/config.ts'
import { edgeConfig } from '../../edge/config.ts'

const SCHEMAS: Record<string, z.ZodObject> = { edge: edgeConfig, bridge: bridgeConfig, migrations: migrateConfig }

const lines = readFileSync(join(import.meta.dirname, '../../.env.example'), 'utf8').split('\n')
const given = new Map<string, string>()
for (const line of lines) {
  const match = /^([A-Z][A-Z0-9_]*)=(.*)$/.exec(line)
  if (match !== null) given.set(match[1] ?? '', match[2] ?? '')
}

t.test('every line is a comment, a variable, or empty', async (t) => {
  t.same(
    lines.filter((line) => line !== '' && !line.startsWith('# ') && !/^[A-Z][A-Z0-9_]*=/.test(line)),
    []
  )
})

t.test('every variable stands under a line that says what it is', async (t) => {
  for (const name of given.keys()) {
    const index = lines.findIndex((line) => line.startsWith(`${name}=`))
    t.match(lines[index - 1], /^# \S/, name)
  }
})

t.test('no variable stands in the file that nothing reads, and those of docker-compose.yml do', async (t) => {
  const known = new Set(Object.values(SCHEMAS).flatMap((schema) => Object.keys(schema.shape)))
  const compose = readFileSync(join(import.meta.dirname, '../../docker-compose.yml'), 'utf8')
  for (const [, name] of compose.matchAll(/\$\{([A-Z0-9_]+)/g)) {
    t.ok(given.has(name ?? ''), `${name} of docker-compose.yml is in .env.example`)
    known.add(name ?? '')
  }
  t.same(
    [...given.keys()].filter((name) => !known.has(name)),
    []
  )
})

for (const [service, schema] of Object.entries(SCHEMAS)) {
  t.test(`every variable of the ${service} is in the file with its default`, async (t) => {
    for (const [name, field] of Object.entries(schema.shape)) {
      const text = given.get(name)
      t.not(text, undefined, `${name} is in .env.example`)
      const unset = parse(field, undefined)
      // What is required has no default to show, only an example.
      if (text === undefined || !unset.success) continue
      t.same(parse(field, text === '' ? undefined : text), unset, `${name}=${text} is its default`)
    }
  })
}

function parse(field: z.core.$ZodType, input: string | undefined) {
  const result = field._zod.run({ value: input, issues: [] }, { async: false })
  if (result instanceof Promise) throw new Error('a schema of configuration is not asynchronous')
  return result.issues.length > 0 ? { success: false, value: null } : { success: true, value: result.value }
}
