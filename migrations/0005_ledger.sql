-- The ledger: what makes each batch count once, whatever is sent again, lost or reordered on the way.

CREATE TABLE ingest_batches (
  gateway_id text NOT NULL,
  epoch text NOT NULL,
  lane text NOT NULL,
  batch bigint NOT NULL,
  kind text NOT NULL,
  first_seq bigint NOT NULL,
  last_seq bigint NOT NULL,
  predecessor bytea,
  digest bytea NOT NULL,
  records integer NOT NULL,
  stored integer NOT NULL,
  duplicates integer NOT NULL,
  dead_lettered integer NOT NULL,
  evicted integer NOT NULL,
  touched tstzmultirange,
  committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (gateway_id, epoch, lane, batch),
  CONSTRAINT ingest_batches_lane_check CHECK (lane IN ('readings', 'maintenance')),
  CONSTRAINT ingest_batches_batch_check CHECK (batch >= 1),
  CONSTRAINT ingest_batches_kind_check CHECK (kind IN ('data', 'tombstone', 'undecodable')),
  CONSTRAINT ingest_batches_digest_check CHECK (octet_length(digest) = 32),
  CONSTRAINT ingest_batches_sum_check CHECK (records = stored + duplicates + dead_lettered + evicted)
);

COMMENT ON TABLE ingest_batches IS
  'One row per batch that was committed, written in the transaction that stores its records. The key is what makes a '
  'batch count once: the same digest again is a replay, another digest under the same key a cloned gateway.';
COMMENT ON COLUMN ingest_batches.epoch IS
  'Random id of the gateway''s buffer file, 32 hex digits.';
COMMENT ON COLUMN ingest_batches.batch IS
  'Number of the batch in its lane, from 1 without gaps; committed in any order.';
COMMENT ON COLUMN ingest_batches.kind IS
  'data; tombstone: its records were evicted at the edge; undecodable: the whole batch is one dead letter.';
COMMENT ON COLUMN ingest_batches.first_seq IS
  'Sequence number of the first record, given by the edge and never twice in an epoch.';
COMMENT ON COLUMN ingest_batches.predecessor IS
  'Digest of the batch before it in the lane; null at the first.';
COMMENT ON COLUMN ingest_batches.digest IS
  'SHA-256 of predecessor and payload: links the batches of a lane into a chain that shows holes.';
COMMENT ON COLUMN ingest_batches.records IS
  'Records in the batch: the sum of stored, duplicates, dead_lettered and evicted.';
COMMENT ON COLUMN ingest_batches.touched IS
  'Time ranges of the batch''s readings, for refreshing the roll-ups of exactly these; null when there are none.';

CREATE TABLE ingest_lanes (
  gateway_id text NOT NULL,
  epoch text NOT NULL,
  lane text NOT NULL,
  batches bigint NOT NULL DEFAULT 0,
  records bigint NOT NULL DEFAULT 0,
  stored bigint NOT NULL DEFAULT 0,
  duplicates bigint NOT NULL DEFAULT 0,
  dead_lettered bigint NOT NULL DEFAULT 0,
  evicted bigint NOT NULL DEFAULT 0,
  last_batch bigint NOT NULL DEFAULT 0,
  dense_batch bigint NOT NULL DEFAULT 0,
  last_seq bigint NOT NULL DEFAULT 0,
  first_commit_at timestamptz,
  last_commit_at timestamptz,
  PRIMARY KEY (gateway_id, epoch, lane),
  CONSTRAINT ingest_lanes_lane_check CHECK (lane IN ('readings', 'maintenance')),
  CONSTRAINT ingest_lanes_sum_check CHECK (records = stored + duplicates + dead_lettered + evicted),
  CONSTRAINT ingest_lanes_dense_check CHECK (dense_batch <= last_batch)
);

COMMENT ON TABLE ingest_lanes IS
  'One row per gateway, epoch and lane: the sums of its ledger rows, kept in the same transactions.';
COMMENT ON COLUMN ingest_lanes.batches IS
  'Ledger rows of the lane.';
COMMENT ON COLUMN ingest_lanes.last_batch IS
  'Highest batch number in the ledger; 0 before the first.';
COMMENT ON COLUMN ingest_lanes.dense_batch IS
  'Batches 1 to this one are all in the ledger; what is missing lies above it.';
COMMENT ON COLUMN ingest_lanes.last_seq IS
  'Highest sequence number in the ledger; 0 before the first.';
