-- What is to know of the readings, whatever form the table has.

COMMENT ON TABLE sensor_readings IS
  'One row per reading; (timestamp, sensor_id) is its identity. Only added to, and dropped by age, never updated.';
COMMENT ON COLUMN sensor_readings.id IS
  'Unique number in no particular order: each session takes 1000 at a time.';
COMMENT ON COLUMN sensor_readings.timestamp IS
  'The source''s time, to the microsecond; the arrival time at the edge when the source gave none.';
COMMENT ON COLUMN sensor_readings.sensor_id IS
  'sensors.sensor_id; not a foreign key, which would halve the rate of ingest.';
COMMENT ON COLUMN sensor_readings.value IS
  'The value in the sensor''s unit; 0 and 1 for a boolean; null for a text, and for a reading without a value.';
COMMENT ON COLUMN sensor_readings.value_text IS
  'The value when it is a text, or an integer beyond 2^53; else null.';
COMMENT ON COLUMN sensor_readings.quality IS
  'OPC quality code: 192 good, 64 uncertain, 0 bad.';
COMMENT ON COLUMN sensor_readings.received_at IS
  'When the edge took the message in, by the edge''s clock.';
COMMENT ON SEQUENCE sensor_readings_id_seq IS
  'Gives sensor_readings.id; cached, since one number a call costs ingest a third.';
