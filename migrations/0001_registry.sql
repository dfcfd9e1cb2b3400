-- The gateways and sensors that have been heard of. Both register themselves with their first batch.

CREATE TABLE gateways (
  gateway_id text NOT NULL PRIMARY KEY,
  first_seen timestamptz NOT NULL,
  last_seen timestamptz NOT NULL,
  epoch text,
  alarm text,
  alarm_at timestamptz
);

COMMENT ON TABLE gateways IS
  'One row per gateway (an edge agent; the API is one too, named api).';
COMMENT ON COLUMN gateways.epoch IS
  'Epoch of the newest batch: the random id of the gateway''s buffer file, 32 hex digits; null until the first batch.';
COMMENT ON COLUMN gateways.alarm IS
  'What is wrong with the gateway, e.g. a batch that came with another digest (a cloned buffer); null when it is well.';
COMMENT ON COLUMN gateways.alarm_at IS
  'When the alarm was raised; null when it is well.';

CREATE TABLE sensors (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sensor_id text NOT NULL UNIQUE,
  sensor_type text,
  unit text,
  location text,
  status text NOT NULL DEFAULT 'active',
  equipment_id text,
  gateway_id text NOT NULL,
  shared boolean NOT NULL DEFAULT false,
  first_seen timestamptz NOT NULL,
  last_seen timestamptz NOT NULL,
  CONSTRAINT sensors_status_check CHECK (
    status IN ('active', 'inactive', 'maintenance', 'decommissioned')
  )
);

COMMENT ON TABLE sensors IS
  'One row per sensor. Written in the transaction that stores the sensor''s first readings.';
COMMENT ON COLUMN sensors.sensor_id IS
  'The plant''s name of the sensor, at most 255 bytes; by default its MQTT topic.';
COMMENT ON COLUMN sensors.unit IS
  'Unit of the readings'' values as the source gives it; null when nothing was said.';
COMMENT ON COLUMN sensors.gateway_id IS
  'The owner: the gateway that registered the sensor first. Another''s readings for it are dead letters.';
COMMENT ON COLUMN sensors.shared IS
  'True when any gateway may send readings for the sensor.';
COMMENT ON COLUMN sensors.first_seen IS
  'When the bridge first stored a batch with this sensor.';
COMMENT ON COLUMN sensors.last_seen IS
  'When the bridge last noted a batch with this sensor.';
