// A sealed batch: exactly the bytes that lie in the edge's buffer and go on the wire.
//
//   CBOR array [version, digest, predecessor, header, content]
//   header:  CBOR map, see `BatchHeader`
//   content: zstd of the body (body.ts)
//   digest:  SHA-256(predecessor ‖ header ‖ content)
//
// The first three elements stay in place in every version. The chain of digests proves completeness, not authorship.
import { createHash } from 'node:crypto'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import { AppError, messageOf } from '../errors.ts'
import { GATEWAY_ID } from '../topics.ts'
import { decodeBody, encodeBody, MAX_BATCH_RECORDS, MAX_BODY_BYTES } from './body.ts'
import type { Body } from './body.ts'

export const BATCH_VERSION = 1

/** The longest batch on the wire, bytes. */
export const MAX_WIRE_BYTES = 256_000

/** The predecessor's digest of a chain's first batch. */
export const NO_PREDECESSOR: Uint8Array = new Uint8Array(32)

export const LANES = ['readings', 'maintenance'] as const
export type Lane = (typeof LANES)[number]

const header = z.object({
  gateway: z.string().regex(GATEWAY_ID),
  /** 32 hex digits, made with the buffer file. */
  epoch: z.string().regex(/^[0-9a-f]{32}$/),
  lane: z.enum(LANES),
  /** From 1, without gaps, per epoch and lane. */
  batch: z.int().min(1),
  kind: z.enum(['data', 'tombstone']),
  firstSeq: z.int().min(1),
  lastSeq: z.int().min(1),
  records: z.int().min(1).max(MAX_BATCH_RECORDS),
  /** The body's length before compression. */
  bodyBytes: z.int().min(0).max(MAX_BODY_BYTES)
})
export type BatchHeader = z.infer<typeof header>

export type SealedBatch = { wire: Uint8Array; digest: Uint8Array }

/** What can be read of a batch without its content. */
export type Envelope = {
  digest: Uint8Array
  predecessor: Uint8Array
  header: BatchHeader
  content: Uint8Array
}

/** `records` and `lastSeq` must agree with the body: `lastSeq − firstSeq + 1 = records`. */
export function sealBatch(
  facts: Omit<BatchHeader, 'bodyBytes' | 'kind'>,
  body: Body,
  predecessor: Uint8Array
): SealedBatch {
  const plain = encodeBody(body)
  const kind = body.kind === 'tombstone' ? 'tombstone' : 'data'
  const headerBytes = encode({ ...facts, kind, bodyBytes: plain.length } satisfies BatchHeader)
  const content = zstdCompressSync(plain, { params: { [constants.ZSTD_c_compressionLevel]: 3 } })
  const digest = digestOf(predecessor, headerBytes, content)
  return { wire: encode([BATCH_VERSION, digest, predecessor, headerBytes, content]), digest }
}

export function digestOf(predecessor: Uint8Array, headerBytes: Uint8Array, content: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(predecessor).update(headerBytes).update(content).digest())
}

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'must be bytes')
const digestBytes = bytes.refine((value) => value.length === 32, 'must be 32 bytes')
const outer = z.tuple([z.int(), digestBytes, digestBytes]).rest(z.unknown())
const version1 = z.tuple([z.literal(BATCH_VERSION), digestBytes, digestBytes, bytes, bytes])

/**
 * Opens and proves the envelope.
 * @throws AppError `batch_unsupported_version`; `batch_wrong_digest` when the bytes were changed on their way;
 * `batch_unreadable` when it isn't a batch at all. The first two name the digest (hex) in `cause` for the answer.
 */
export function openEnvelope(wire: Uint8Array): Envelope {
  const value = parse(wire)
  const frame = outer.safeParse(value)
  if (!frame.success) throw new AppError('batch_unreadable', 'not a batch: no version and digests')
  const [version, announced] = frame.data
  if (version !== BATCH_VERSION) {
    throw new AppError(
      'batch_unsupported_version',
      `batch of version ${version}, this program reads ${BATCH_VERSION}`,
      { cause: hexOf(announced) }
    )
  }
  const parsed = version1.safeParse(value)
  if (!parsed.success) throw new AppError('batch_unreadable', 'not a batch: the envelope is incomplete')
  const [, digest, predecessor, headerBytes, content] = parsed.data
  if (!sameBytes(digestOf(predecessor, headerBytes, content), digest)) {
    throw new AppError('batch_wrong_digest', 'the digest does not fit the bytes', { cause: hexOf(digest) })
  }
  const facts = header.safeParse(parse(headerBytes))
  if (!facts.success) {
    const issue = facts.error.issues[0]
    throw new AppError('batch_unreadable', `header ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unreadable'}`)
  }
  return { digest, predecessor, header: facts.data, content }
}

/** Unpacks what an envelope holds. @throws AppError `batch_unreadable` */
export function openBody(envelope: Envelope): Body {
  const { lane, kind, records, bodyBytes, firstSeq, lastSeq } = envelope.header
  if (lastSeq - firstSeq + 1 !== records) throw new AppError('batch_unreadable', 'seqs and records do not agree')
  let plain: Uint8Array
  try {
    plain = zstdDecompressSync(envelope.content, { maxOutputLength: Math.max(1, bodyBytes) })
  } catch (error) {
    throw new AppError(
      'batch_unreadable',
      `content can't be decompressed within its announced ${bodyBytes} bytes: ${messageOf(error)}`
    )
  }
  if (plain.length !== bodyBytes)
    throw new AppError('batch_unreadable', `content has ${plain.length} bytes, announced ${bodyBytes}`)
  return decodeBody(kind === 'tombstone' ? 'tombstone' : lane, plain, records)
}

function parse(bytes: Uint8Array): unknown {
  try {
    return decode(bytes)
  } catch (error) {
    throw new AppError('batch_unreadable', `not CBOR: ${messageOf(error)}`)
  }
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index])
}
