// What a route answers.

export type Answer = { status: number; contentType: string; body: string; headers?: Record<string, string> }

export type Route = () => Answer | Promise<Answer>

export function json(status: number, content: unknown): Answer {
  return { status, contentType: 'application/json; charset=utf-8', body: `${JSON.stringify(content)}\n` }
}

/** Every error has this form; `error` is a constant word, `message` one sentence for a person. */
export function errorAnswer(status: number, error: string, message: string): Answer {
  return json(status, { error, message })
}
