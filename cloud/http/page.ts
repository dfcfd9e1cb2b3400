// `GET /`: the status page, three files that load nothing from elsewhere.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { FastifyInstance } from 'fastify'

const FILES = [
  { path: '/', file: 'index.html', type: 'text/html; charset=utf-8' },
  { path: '/status.css', file: 'status.css', type: 'text/css; charset=utf-8' },
  { path: '/status.js', file: 'status.js', type: 'text/javascript; charset=utf-8' }
]

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'"
].join('; ')

export function pageRoute(app: FastifyInstance): void {
  const folder = webFolder()
  for (const { path, file, type } of FILES) {
    const content = readFileSync(join(folder, file), 'utf8')
    app.get(path, (_request, reply) => {
      reply.type(type).header('content-security-policy', POLICY)
      return content
    })
  }
}

/** The page's folder, from source as from `dist`. @throws Error when the program was copied without it. */
function webFolder(): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    const candidate = join(folder, 'cloud', 'web')
    if (existsSync(join(candidate, 'index.html'))) return candidate
    if (dirname(folder) === folder) throw new Error(`no folder cloud/web above ${import.meta.dirname}`)
  }
}
