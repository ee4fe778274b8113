-- A device that would not, or could not, do a task may be asked again later: the fleet may be small.
-- NULL: never.
ALTER TABLE assignments ADD COLUMN ask_again_ms INTEGER;

DROP INDEX assignments_once;
-- One device never holds two leases on one task.
CREATE UNIQUE INDEX assignments_once ON assignments (task, device) WHERE state IN ('offered', 'accepted', 'committed');
