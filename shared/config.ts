// Configuration from environment variables: one zod schema per service, all problems at once, secrets from files.
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { AppError, messageOf } from './errors.ts'

export type Environment = Record<string, string | undefined>

/** `on` or `off`. */
export const onOff = z.enum(['on', 'off']).transform((value) => value === 'on')

/** A whole number written in decimal digits. */
export const wholeNumber = z
  .string()
  .regex(/^\d{1,15}$/, 'must be a whole number')
  .transform(Number)

export const port = wholeNumber.refine((value) => value <= 65_535, 'must be a port, 0 to 65535')

const BYTE_UNITS: Record<string, number> = {
  '': 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40
}

/** A size: `4294967296`, `4GiB`, `500 MB`. Bytes. */
export const byteSize = z.string().transform((text, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim())
  const unit = match === null ? undefined : BYTE_UNITS[(match[2] ?? '').toUpperCase()]
  if (match === null || unit === undefined) {
    context.issues.push({ code: 'custom', message: 'must be a size such as 4GiB or 500MB', input: text })
    return z.NEVER
  }
  return Math.floor(Number(match[1]) * unit)
})

const DURATION_UNITS: Record<string, number> = { '': 1, ms: 1, s: 1e3, m: 60e3, h: 3_600e3, d: 86_400e3 }

/** A duration: `200` (ms), `2s`, `1h`. Milliseconds. */
export const durationMs = z.string().transform((text, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/.exec(text.trim())
  const unit = match === null ? undefined : DURATION_UNITS[match[2] ?? '']
  if (match === null || unit === undefined) {
    context.issues.push({ code: 'custom', message: 'must be a duration such as 200 (ms), 2s or 1h', input: text })
    return z.NEVER
  }
  return Math.floor(Number(match[1]) * unit)
})

/** A comma-separated list; empty items are left out. */
export const list = z.string().transform((text) =>
  text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
)

/**
 * Reads a service's settings. `NAME_FILE` gives the content of a file for `NAME`. An empty variable counts as absent.
 * @throws AppError `config_invalid` with one line for each problem, each naming its variable.
 */
export function readConfig<Schema extends z.ZodObject>(schema: Schema, env: Environment): z.output<Schema> {
  const problems: string[] = []
  const input: Record<string, string> = {}
  for (const name of Object.keys(schema.shape)) {
    const value = env[name]
    const file = env[`${name}_FILE`]
    if (value !== undefined && value !== '') {
      input[name] = value
      if (file !== undefined && file !== '') problems.push(`${name}: set both as ${name} and as ${name}_FILE; keep one`)
    } else if (file !== undefined && file !== '') {
      try {
        input[name] = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
      } catch (error) {
        problems.push(`${name}_FILE: can't be read: ${messageOf(error)}`)
      }
    }
  }
  const parsed = schema.safeParse(input)
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const name = String(issue.path[0] ?? '')
      if (problems.some((problem) => problem.startsWith(`${name}_FILE:`))) continue
      const given = input[name]
      problems.push(given === undefined ? `${name}: is required and not set` : `${name}: ${issue.message}`)
    }
  }
  if (problems.length > 0 || !parsed.success) {
    throw new AppError(
      'config_invalid',
      `the configuration has ${problems.length} problem(s):\n  ${problems.join('\n  ')}`,
      {
        hint: 'correct the variables named above; .env.example lists them all'
      }
    )
  }
  return parsed.data
}
