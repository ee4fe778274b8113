-- Who has shown the bytes of which content: a person, or a device for an assignment (the other one is empty). The
-- hash alone opens nothing: only what somebody has sent may be named in their jobs, or in their results.
CREATE TABLE held_content (
    person     TEXT NOT NULL,
    assignment BLOB NOT NULL,
    sha256     BLOB NOT NULL,
    length     INTEGER NOT NULL,
    touched_ms INTEGER NOT NULL,
    PRIMARY KEY (person, assignment, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_content_sha256 ON held_content (sha256);
CREATE INDEX held_content_touched ON held_content (touched_ms);

-- What a job has returned is kept longer after its end than what it was given. Of what is here already nobody knows
-- which is which: all of it counts as returned.
ALTER TABLE job_content ADD COLUMN is_result INTEGER NOT NULL DEFAULT 1;
