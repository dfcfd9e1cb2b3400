-- only: apache, plain
-- The readings in range partitions of 7 days. The time leads the key and there is no second index: each costs ingest a
-- third. No foreign key to sensors: it costs more than the copying itself, and both are written in one transaction.

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
)
PARTITION BY RANGE (timestamp);

ALTER SEQUENCE sensor_readings_id_seq OWNED BY sensor_readings.id;

-- A new partition is made apart and attached: that lets COPY into its siblings go on, which PARTITION OF would not.
CREATE FUNCTION millrace_ensure_partitions(from_timestamp timestamptz, to_timestamp timestamptz)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
AS $function$
DECLARE
  week_seconds CONSTANT bigint := 7 * 86400;
  parent CONSTANT regclass := 'sensor_readings'::regclass;
  parent_schema name;
  partition_name text;
  lower_bound timestamptz;
  made integer := 0;
BEGIN
  IF from_timestamp IS NULL OR to_timestamp IS NULL THEN
    RAISE EXCEPTION 'partitions need both a from and a to timestamp' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  IF from_timestamp < '0001-01-08 00:00:00+00' OR to_timestamp >= '9999-12-24 00:00:00+00' THEN
    RAISE EXCEPTION 'partitions from % to % lie outside the years 1 to 9999', from_timestamp, to_timestamp
      USING ERRCODE = 'datetime_field_overflow';
  END IF;
  IF from_timestamp > to_timestamp THEN
    RAISE EXCEPTION 'partitions from % to %: the end lies before the start', from_timestamp, to_timestamp
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF to_timestamp - from_timestamp > INTERVAL '400 days' THEN
    RAISE EXCEPTION 'partitions from % to % span more than 400 days', from_timestamp, to_timestamp
      USING ERRCODE = 'invalid_parameter_value',
        HINT = 'Ask for the ranges that have readings, each by itself.';
  END IF;
  SELECT n.nspname
    INTO STRICT parent_schema
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = parent;
  FOR week IN
    floor(extract(epoch FROM from_timestamp) / week_seconds)::bigint
    .. floor(extract(epoch FROM to_timestamp) / week_seconds)::bigint
  LOOP
    lower_bound := to_timestamp(week * week_seconds);
    partition_name := 'sensor_readings_p' || to_char(lower_bound AT TIME ZONE 'UTC', 'YYYYMMDD');
    CONTINUE WHEN EXISTS (
      SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = parent AND c.relname = partition_name
    );
    -- Held to the end of the transaction; the look after it sees what the session before us has committed.
    PERFORM pg_advisory_xact_lock(hashtextextended('millrace.sensor_readings.partitions', 0));
    CONTINUE WHEN EXISTS (
      SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = parent AND c.relname = partition_name
    );
    EXECUTE format(
      'CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING STORAGE)',
      parent_schema, partition_name, parent
    );
    EXECUTE format(
      'ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
      parent, parent_schema, partition_name, lower_bound, lower_bound + INTERVAL '168 hours'
    );
    made := made + 1;
  END LOOP;
  RETURN made;
END
$function$;

COMMENT ON FUNCTION millrace_ensure_partitions(timestamptz, timestamptz) IS
  'Makes the 7-day partitions of sensor_readings that hold the instants from..to, both included, aligned to the Unix '
  'epoch and named by their first day (UTC); returns how many were missing. Runs with its owner''s rights, since only '
  'the owner may make partitions. Safe in several sessions at once. Refuses spans over 400 days.';

-- With the owner's rights no name may be looked up where others can put theirs in front.
DO $block$
BEGIN
  EXECUTE format(
    'ALTER FUNCTION millrace_ensure_partitions(timestamptz, timestamptz) SET search_path = pg_catalog, %I, pg_temp',
    current_schema()
  );
END
$block$;

REVOKE ALL ON FUNCTION millrace_ensure_partitions(timestamptz, timestamptz) FROM PUBLIC;
