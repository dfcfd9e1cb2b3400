-- What tells an event that comes again from another one under its id, what the bridge itself has to say about a change,
-- and the epoch that an alarm is about.

ALTER TABLE maintenance_inbox ADD COLUMN digest bytea;
ALTER TABLE maintenance_logs ADD COLUMN digest bytea;
ALTER TABLE maintenance_logs ADD COLUMN remark text;
ALTER TABLE gateways ADD COLUMN alarm_epoch text;

COMMENT ON COLUMN maintenance_inbox.digest IS
  'SHA-256 of what the event says; null in rows older than this column.';
COMMENT ON COLUMN maintenance_logs.digest IS
  'SHA-256 of what the event says; null in rows older than this column.';
COMMENT ON COLUMN maintenance_logs.remark IS
  'What the bridge noted when it applied the event, e.g. that events before it never came; null when nothing.';
COMMENT ON COLUMN gateways.alarm_epoch IS
  'The epoch in which the alarm arose. A day after it was raised last, a batch of another epoch clears it; null when it '
  'is well.';
COMMENT ON COLUMN dead_letters.id IS
  'Makes a dead letter exist once. Of the edge: the uuid made at intake; of the bridge: gateway/SHA-256 of lane and '
  'record, so that a record which comes again in another epoch is the same; of a whole batch: gateway/digest.';
