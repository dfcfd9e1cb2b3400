// Command-line options of the demo's programs: `--name 5`, `--name=5` and flags, checked all at once.
import { parseArgs } from 'node:util'
import type { Environment } from '../shared/config.ts'
import { AppError } from '../shared/errors.ts'

/** A number that an option takes. */
export type NumberOption = { default: number; min: number; max: number; whole: boolean }

export type Options<Numbers extends string, Flags extends string> = {
  number(name: Numbers): number
  has(flag: Flags | 'help'): boolean
}

/**
 * `--help` is always a flag. `command` is how a person starts the program, for messages.
 * @throws AppError `config_invalid`: one line that names every problem.
 */
export function readOptions<Numbers extends string, Flags extends string>(
  args: readonly string[],
  env: Environment,
  known: { command: string; numbers: Readonly<Record<Numbers, NumberOption>>; flags: readonly Flags[] }
): Options<Numbers, Flags> {
  const bounds = new Map<string, NumberOption>(Object.entries(known.numbers))
  const flagNames: readonly string[] = ['help', ...known.flags]
  const values = new Map([...bounds].map(([name, bound]) => [name, bound.default]))
  const flags = new Set<string>()
  const problems: string[] = []

  const taken = [...bounds.keys(), ...known.flags].filter((name) => takenByNpm(name, env))
  for (const { kind, ...token } of tokensOf(args, [...bounds.keys()], flagNames)) {
    if (kind === 'positional' && 'value' in token) {
      if (taken.length === 0) problems.push(`${JSON.stringify(token.value)} is no option`)
    }
    if (kind !== 'option' || !('rawName' in token)) continue
    const { name, rawName, value } = token
    const bound = bounds.get(name)
    if (!rawName.startsWith('--')) problems.push(`unknown option ${rawName}`)
    else if (bound !== undefined) {
      const number = readNumber(value, bound)
      if (number === null)
        problems.push(`${rawName} must be ${describe(bound)}${value === undefined ? '' : `, not ${value}`}`)
      else values.set(name, number)
    } else if (!flagNames.includes(name)) problems.push(`unknown option ${rawName}`)
    else if (value !== undefined) problems.push(`${rawName} takes no value`)
    else flags.add(name)
  }
  if (taken.length > 0) {
    const example = taken.map((name) => `--${name}${bounds.has(name) ? ' …' : ''}`).join(' ')
    problems.push(
      `npm kept ${taken.map((name) => `--${name}`).join(' and ')} for itself, write ${known.command} -- ${example}`
    )
  }
  if (problems.length > 0) {
    throw new AppError('config_invalid', problems.join('; '), { hint: `${known.command} -- --help lists the options` })
  }
  return { number: (name) => values.get(name) ?? known.numbers[name].default, has: (flag) => flags.has(flag) }
}

function tokensOf(args: readonly string[], numbers: readonly string[], flags: readonly string[]) {
  const options = Object.fromEntries([
    ...numbers.map((name) => [name, { type: 'string' as const }] as const),
    ...flags.map((name) => [name, { type: 'boolean' as const }] as const)
  ])
  return parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true }).tokens
}

/** npm takes options that stand before `--`, and leaves them in variables: `--no-x` as an empty `npm_config_x`. */
function takenByNpm(name: string, env: Environment): boolean {
  return (
    env[`npm_config_${name.replaceAll('-', '_')}`] !== undefined || env[`npm_config_${name.replace(/^no-/, '')}`] === ''
  )
}

function readNumber(text: string | undefined, { min, max, whole }: NumberOption): number | null {
  if (text === undefined || !/^\d{1,15}(\.\d{1,6})?$/.test(text)) return null
  const number = Number(text)
  return number >= min && number <= max && (!whole || Number.isInteger(number)) ? number : null
}

function describe({ min, max, whole }: NumberOption): string {
  return `${whole ? 'a whole number' : 'a number'} from ${min} to ${max}`
}
