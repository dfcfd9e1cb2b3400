// The command line: `npm run bench -- [names] [--rounds N] [--seed N] [--quick] [--folder PATH]`.
import { parseArgs } from 'node:util'
import { AppError, messageOf } from '../shared/errors.ts'

export type BenchOptions = {
  names: string[]
  rounds: number
  seed: number
  quick: boolean
  folder: string
  help: boolean
}

const DEFAULT_ROUNDS = 3
const MAX_ROUNDS = 100

/** `folder`: where data lies unless told otherwise. @throws AppError `config_invalid` */
export function readBenchOptions(args: readonly string[], known: readonly string[], folder: string): BenchOptions {
  const { values, positionals } = parse(args)
  const unknown = positionals.filter((name) => !known.includes(name))
  if (unknown.length > 0) throw invalid(`no bench is named ${unknown.join(', ')}`, known)
  const quick = values.quick ?? false
  return {
    names: positionals.length === 0 ? [...known] : positionals,
    rounds: wholeNumber('--rounds', values.rounds, quick ? 1 : DEFAULT_ROUNDS, 1, MAX_ROUNDS, known),
    seed: wholeNumber('--seed', values.seed, 1, 0, 2 ** 32 - 1, known),
    quick,
    folder: values.folder ?? folder,
    help: values.help ?? false
  }

  function parse(given: readonly string[]) {
    try {
      return parseArgs({
        args: [...given],
        allowPositionals: true,
        options: {
          rounds: { type: 'string' },
          seed: { type: 'string' },
          quick: { type: 'boolean' },
          folder: { type: 'string' },
          help: { type: 'boolean' }
        }
      })
    } catch (error) {
      throw invalid(messageOf(error), known)
    }
  }
}

function wholeNumber(
  name: string,
  text: string | undefined,
  absent: number,
  min: number,
  max: number,
  known: readonly string[]
): number {
  if (text === undefined) return absent
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= min && value <= max) return value
  throw invalid(`${name} must be a whole number from ${min} to ${max}, not ${text}`, known)
}

function invalid(problem: string, known: readonly string[]): AppError {
  return new AppError('config_invalid', problem, { hint: `the benches are ${known.join(', ')}` })
}
