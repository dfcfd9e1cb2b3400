// Runs npm under a given Node.js, quietly, and says in one sentence what went wrong when it fails.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { basename, delimiter, dirname, join } from 'node:path'

/** A failure of the set-up that a person can mend: its message is all that is shown. */
export class SetupError extends Error {}

/** The most of npm's own last lines that are shown with a failure. */
const SHOWN_LINES = 8

/** Without these npm would wait more than a minute before it says that there is no network. */
const SHORT_WAITS = ['--fetch-retry-mintimeout=2000', '--fetch-retry-maxtimeout=10000']

/**
 * The environment for children that run on `node`: it comes first in PATH, and addons would be compiled for it and no
 * other. Proxies, certificates and npm's own settings are handed on as they are.
 */
export function environmentFor(node) {
  const env = { ...process.env, NODE: node, npm_node_execpath: node }
  const pathName = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH'
  env[pathName] = [dirname(node), env[pathName]].filter(Boolean).join(delimiter)
  for (const name of Object.keys(env)) if (name.toLowerCase() === 'npm_config_nodedir') delete env[name]
  const prefix = dirname(dirname(node))
  if (existsSync(join(prefix, 'include', 'node', 'node.h'))) env.npm_config_nodedir = prefix
  return env
}

/**
 * Runs npm with `args` in `cwd` and gives its standard output.
 * @throws SetupError telling why `purpose` failed.
 */
export async function npm(node, args, { cwd, purpose }) {
  const env = environmentFor(node)
  // npm looks for the machine's npmrc beside the Node.js that runs it; under another one it is told where that was.
  if (node !== process.execPath && env.npm_config_globalconfig === undefined) {
    const ask = ['config', 'get', 'globalconfig']
    env.npm_config_globalconfig = (
      await runNpm(process.execPath, ask, cwd, environmentFor(process.execPath), purpose)
    ).trim()
  }
  return runNpm(node, [...args, ...SHORT_WAITS, '--no-audit', '--no-fund', '--no-update-notifier'], cwd, env, purpose)
}

function runNpm(node, args, cwd, env, purpose) {
  const [program, first] = npmCommand(node)
  const child = spawn(program, [...first, ...args], {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: process.platform === 'win32' && first.length === 0
  })
  const endWithUs = () => child.kill()
  process.on('exit', endWithUs)
  let output = ''
  let errors = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  child.stderr.on('data', (chunk) => {
    errors += chunk
  })
  return new Promise((resolve, reject) => {
    child.on('error', (error) => {
      const missing = error.code === 'ENOENT'
      const message = missing
        ? `${purpose} needs npm, which is not installed: install npm and try again`
        : error.message
      reject(new SetupError(message))
    })
    child.on('close', (status, signal) => {
      process.off('exit', endWithUs)
      if (status === 0) resolve(output)
      else reject(new SetupError(explain(purpose, `${output}\n${errors}`, signal)))
    })
  })
}

/** The npm that started us, else the one in PATH. */
function npmCommand(node) {
  const running = process.env.npm_execpath
  if (running !== undefined && basename(running) === 'npm-cli.js' && existsSync(running)) return [node, [running]]
  return ['npm', []]
}

function explain(purpose, said, signal) {
  if (signal !== null) return `${purpose} was ended by ${signal}`
  const reasons = [
    [/ENOSPC/, 'the disk is full: free some space and try again'],
    [/\b(EACCES|EPERM|EROFS)\b/, 'a folder is not writable: see its name below'],
    [
      /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT)\b/,
      'npm reaches no registry: check the network, and the proxy and registry settings of npm'
    ],
    [
      /\b(SELF_SIGNED_CERT\w*|DEPTH_ZERO\w*|UNABLE_TO_\w+|CERT_\w+)\b/,
      "the registry's certificate is not trusted: set NODE_EXTRA_CA_CERTS"
    ],
    [/\bE40[13]\b/, 'the registry refuses: check the credentials that npm uses'],
    [/\b(E404|ETARGET)\b/, "npm's registry doesn't have a package that is needed"],
    [/\bEINTEGRITY\b/, "a package isn't the one that was pinned; nothing of it was used"]
  ]
  const reason = reasons.find(([pattern]) => pattern.test(said))?.[1] ?? 'npm failed'
  const lines = said
    .split('\n')
    .map((line) => line.replace(/^npm (error|ERR!) ?/, '').trim())
    .filter((line) => line !== '' && !/^(npm (warn|notice)|at )|complete log of this run/i.test(line))
  return [`${purpose}: ${reason}`, ...lines.slice(0, SHOWN_LINES).map((line) => `  npm: ${line}`)].join('\n')
}
