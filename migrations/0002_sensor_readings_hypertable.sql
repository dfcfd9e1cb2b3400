-- only: timescale
-- The readings as a hypertable. The time leads the key and there is no second index: each costs ingest a third.
-- No foreign key to sensors: it costs more than the copying itself, and both are written in one transaction.

CREATE SEQUENCE sensor_readings_id_seq AS bigint CACHE 1000;

CREATE TABLE sensor_readings (
  id bigint NOT NULL DEFAULT nextval('sensor_readings_id_seq'),
  timestamp timestamptz NOT NULL,
  sensor_id text NOT NULL,
  value double precision,
  value_text text,
  quality smallint NOT NULL,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (timestamp, sensor_id)
);

ALTER SEQUENCE sensor_readings_id_seq OWNED BY sensor_readings.id;

SELECT create_hypertable(
  'sensor_readings',
  by_range('timestamp', INTERVAL '7 days'),
  create_default_indexes => false
);

-- Compression comes after the key: a compressed table takes no new constraints. When chunks are compressed is policy.
ALTER TABLE sensor_readings SET (
  timescaledb.compress,
  timescaledb.compress_segmentby = 'sensor_id',
  timescaledb.compress_orderby = 'timestamp DESC'
);
