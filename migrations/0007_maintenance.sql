-- Maintenance tasks and each change of their state.

CREATE TABLE maintenance_tasks (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  gateway_id text NOT NULL,
  task text NOT NULL,
  title text,
  equipment_id text,
  sensor_id text,
  state text NOT NULL,
  flagged boolean NOT NULL DEFAULT false,
  opened_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  closed_at timestamptz,
  CONSTRAINT maintenance_tasks_gateway_id_task_key UNIQUE (gateway_id, task),
  CONSTRAINT maintenance_tasks_state_check CHECK (
    state IN ('pending', 'in_progress', 'completed', 'partially_completed', 'failed', 'cancelled')
  )
);

COMMENT ON TABLE maintenance_tasks IS
  'One row per maintenance task, in its latest state.';
COMMENT ON COLUMN maintenance_tasks.task IS
  'The plant''s name of the task, unique in its gateway.';
COMMENT ON COLUMN maintenance_tasks.state IS
  'pending, then in_progress, then one of completed, partially_completed, failed, cancelled.';
COMMENT ON COLUMN maintenance_tasks.flagged IS
  'True when the plant reported a change that the states don''t allow: it is a fact, so it was applied.';
COMMENT ON COLUMN maintenance_tasks.opened_at IS
  'Time of the first event, by the plant''s clock.';
COMMENT ON COLUMN maintenance_tasks.updated_at IS
  'Time of the latest event applied, by the plant''s clock.';
COMMENT ON COLUMN maintenance_tasks.closed_at IS
  'Time of the event that ended the task; null while it is open.';

CREATE TABLE maintenance_logs (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_id bigint NOT NULL REFERENCES maintenance_tasks (id),
  gateway_id text NOT NULL,
  event_id text NOT NULL,
  from_state text,
  to_state text NOT NULL,
  legal boolean NOT NULL,
  done_by text,
  note text,
  happened_at timestamptz NOT NULL,
  received_at timestamptz NOT NULL,
  logged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT maintenance_logs_gateway_id_event_id_key UNIQUE (gateway_id, event_id),
  CONSTRAINT maintenance_logs_from_state_check CHECK (
    from_state IN ('pending', 'in_progress', 'completed', 'partially_completed', 'failed', 'cancelled')
  ),
  CONSTRAINT maintenance_logs_to_state_check CHECK (
    to_state IN ('pending', 'in_progress', 'completed', 'partially_completed', 'failed', 'cancelled')
  )
);

CREATE INDEX maintenance_logs_task_id_id_idx
  ON maintenance_logs (task_id, id);

COMMENT ON TABLE maintenance_logs IS
  'One row per change of a task''s state, in the order in which they were applied. Only added to.';
COMMENT ON COLUMN maintenance_logs.event_id IS
  'The event''s id, unique in its gateway: an event counts once.';
COMMENT ON COLUMN maintenance_logs.from_state IS
  'The state before; null at the task''s first event.';
COMMENT ON COLUMN maintenance_logs.legal IS
  'False when the states don''t allow the change.';
COMMENT ON COLUMN maintenance_logs.done_by IS
  'Who did it; null when nothing was said.';
COMMENT ON COLUMN maintenance_logs.note IS
  'Why, or what was found; null when nothing was said.';
COMMENT ON COLUMN maintenance_logs.happened_at IS
  'The source''s time; the arrival time at the edge when the source gave none.';
COMMENT ON COLUMN maintenance_logs.received_at IS
  'When the edge took the event in.';
COMMENT ON COLUMN maintenance_logs.logged_at IS
  'When the bridge applied it.';

CREATE TABLE maintenance_inbox (
  gateway_id text NOT NULL,
  epoch text NOT NULL,
  batch bigint NOT NULL,
  seq bigint NOT NULL,
  event_id text NOT NULL,
  body jsonb NOT NULL,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (gateway_id, event_id)
);

CREATE INDEX maintenance_inbox_gateway_id_epoch_seq_idx
  ON maintenance_inbox (gateway_id, epoch, seq);

COMMENT ON TABLE maintenance_inbox IS
  'One row per event that is committed but not yet applied, because a batch before its own is still missing.';
COMMENT ON COLUMN maintenance_inbox.batch IS
  'The batch it came in; it is applied once the lane''s ledger is dense up to this one.';
COMMENT ON COLUMN maintenance_inbox.seq IS
  'Sequence number, the order of applying.';
COMMENT ON COLUMN maintenance_inbox.body IS
  'The event as it was decoded.';
