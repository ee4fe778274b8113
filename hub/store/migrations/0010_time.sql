-- From acceptance on, so long a device has to come to a result or to the commitment to one, however often it says that it
-- goes on. None for assignments that were made before there was such a limit.
ALTER TABLE assignments ADD COLUMN time_ms INTEGER;

-- Each end of a task asks whether its job has others that go on.
CREATE INDEX tasks_unended ON tasks (job) WHERE ended_ms IS NULL;
