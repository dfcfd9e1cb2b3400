-- What could not become a row, and what never arrived.

CREATE TABLE dead_letters (
  id text NOT NULL PRIMARY KEY,
  gateway_id text NOT NULL,
  epoch text,
  lane text,
  batch bigint,
  seq bigint,
  source text NOT NULL,
  reason text NOT NULL,
  detail text,
  sqlstate text,
  topic text,
  payload bytea NOT NULL,
  payload_bytes bigint,
  payload_sha256 text,
  received_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  state text NOT NULL DEFAULT 'open',
  CONSTRAINT dead_letters_source_check CHECK (source IN ('edge', 'bridge')),
  CONSTRAINT dead_letters_state_check CHECK (state IN ('open', 'replayed', 'discarded'))
);

CREATE INDEX dead_letters_gateway_id_created_at_idx
  ON dead_letters (gateway_id, created_at);

COMMENT ON TABLE dead_letters IS
  'One row per record, or whole batch, that could not be stored, with why and what came in, to be mended and replayed.';
COMMENT ON COLUMN dead_letters.id IS
  'Makes a dead letter exist once. Of the edge: the uuid made at intake; of the bridge: gateway/epoch/lane/seq; of a '
  'whole batch: gateway/digest in hex.';
COMMENT ON COLUMN dead_letters.source IS
  'Who gave up on it: the edge (could not be read) or the bridge (could not be stored).';
COMMENT ON COLUMN dead_letters.reason IS
  'A fixed word, e.g. payload_unreadable, conflict, foreign_sensor, time_out_of_range.';
COMMENT ON COLUMN dead_letters.detail IS
  'What was wrong, for a person.';
COMMENT ON COLUMN dead_letters.sqlstate IS
  'PostgreSQL''s code when the database refused it; else null.';
COMMENT ON COLUMN dead_letters.payload IS
  'Of the edge: the raw bytes of the message; of the bridge: the decoded record as JSON in UTF-8, or a batch''s bytes.';
COMMENT ON COLUMN dead_letters.payload_bytes IS
  'Length of what came in, bytes; larger than the payload when that was cut.';
COMMENT ON COLUMN dead_letters.payload_sha256 IS
  'SHA-256 in hex of the whole of what came in, when the payload was cut; else null.';
COMMENT ON COLUMN dead_letters.received_at IS
  'When the edge took the message in; null where that can''t be known.';

CREATE TABLE data_gaps (
  id text NOT NULL PRIMARY KEY,
  gateway_id text NOT NULL,
  epoch text NOT NULL,
  lane text NOT NULL,
  batch bigint NOT NULL,
  first_seq bigint NOT NULL,
  last_seq bigint NOT NULL,
  records bigint NOT NULL,
  sensors jsonb,
  from_timestamp timestamptz,
  to_timestamp timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE data_gaps IS
  'One row per batch that the edge evicted unsent, because its disk was full: the loss is itself on record.';
COMMENT ON COLUMN data_gaps.id IS
  'Makes a gap exist once; made at the edge with the eviction.';
COMMENT ON COLUMN data_gaps.records IS
  'How many records were lost.';
COMMENT ON COLUMN data_gaps.sensors IS
  'Whose they were, as the tombstone says; null when unknown.';
COMMENT ON COLUMN data_gaps.from_timestamp IS
  'Earliest timestamp among them; null when unknown.';
COMMENT ON COLUMN data_gaps.to_timestamp IS
  'Latest timestamp among them; null when unknown.';
