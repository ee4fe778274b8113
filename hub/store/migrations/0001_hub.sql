-- Types are those that PostgreSQL has too: BLOB stands for BYTEA, INTEGER for BIGINT. Amounts are 16 big-endian
-- bytes (NUMERIC(39,0) there), times are milliseconds since 1970, names of parties and content are raw bytes.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

-- How often this store was restored from a backup, and how often it was started: the upper part of every
-- counter that the hub signs.
INSERT INTO settings (name, value) VALUES ('epoch', 0), ('starts', 0);

CREATE TABLE users (
    name       TEXT PRIMARY KEY,
    role       TEXT NOT NULL,
    token_hash BLOB NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE owners (
    address    BLOB PRIMARY KEY,
    admitted   INTEGER NOT NULL DEFAULT 0,
    label      TEXT NOT NULL DEFAULT '',
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE join_tokens (
    secret_hash BLOB PRIMARY KEY,
    owner       BLOB NOT NULL REFERENCES owners (address),
    expires_s   INTEGER NOT NULL,
    uses        INTEGER NOT NULL,
    used        INTEGER NOT NULL DEFAULT 0,
    labels      TEXT NOT NULL,
    delegation  BLOB NOT NULL,
    created_ms  INTEGER NOT NULL
) STRICT;

CREATE TABLE devices (
    address        BLOB PRIMARY KEY,
    owner          BLOB NOT NULL REFERENCES owners (address),
    token          BLOB NOT NULL REFERENCES join_tokens (secret_hash),
    state          TEXT NOT NULL,
    draining       INTEGER NOT NULL DEFAULT 0,
    hostname       TEXT NOT NULL,
    labels         TEXT NOT NULL,
    class          INTEGER NOT NULL,
    agent          TEXT NOT NULL,
    encryption_key BLOB NOT NULL,
    cpu_millis     INTEGER NOT NULL DEFAULT 0,
    memory         INTEGER NOT NULL DEFAULT 0,
    disk           INTEGER NOT NULL DEFAULT 0,
    inodes         INTEGER NOT NULL DEFAULT 0,
    pids           INTEGER NOT NULL DEFAULT 0,
    core_second    BLOB NOT NULL,
    gib_second     BLOB NOT NULL,
    minimum        BLOB NOT NULL,
    missing_limits TEXT NOT NULL DEFAULT '[]',
    enrolled_ms    INTEGER NOT NULL,
    last_seen_ms   INTEGER NOT NULL,
    valid          INTEGER NOT NULL DEFAULT 0,
    invalid        INTEGER NOT NULL DEFAULT 0,
    failed         INTEGER NOT NULL DEFAULT 0,
    consecutive    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX devices_owner ON devices (owner);

CREATE TABLE certificates (
    serial      BLOB PRIMARY KEY,
    device      BLOB NOT NULL REFERENCES devices (address),
    issued_ms   INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL,
    revoked_ms  INTEGER
) STRICT;
CREATE INDEX certificates_device ON certificates (device);

CREATE TABLE windows (
    device BLOB NOT NULL,
    kind   INTEGER NOT NULL,
    state  BLOB NOT NULL,
    PRIMARY KEY (device, kind)
) STRICT, WITHOUT ROWID;

-- What was said under each of the latest counters: one counter with two contents betrays a cloned device.
CREATE TABLE heard (
    device  BLOB NOT NULL,
    kind    INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    leaf    BLOB NOT NULL,
    PRIMARY KEY (device, kind, counter)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    id           BLOB PRIMARY KEY,
    buyer        TEXT NOT NULL,
    idempotency  TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    name         TEXT NOT NULL,
    spec         TEXT NOT NULL,
    state        TEXT NOT NULL,
    tasks        INTEGER NOT NULL,
    reserved     BLOB NOT NULL,
    spent        BLOB NOT NULL,
    cap          BLOB NOT NULL,
    created_ms   INTEGER NOT NULL,
    ended_ms     INTEGER,
    UNIQUE (buyer, idempotency)
) STRICT;
CREATE INDEX jobs_created ON jobs (created_ms);
CREATE INDEX jobs_state ON jobs (state);

CREATE TABLE job_content (
    job    BLOB NOT NULL REFERENCES jobs (id),
    sha256 BLOB NOT NULL,
    PRIMARY KEY (job, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_content_sha256 ON job_content (sha256);

CREATE TABLE tasks (
    id           BLOB PRIMARY KEY,
    job          BLOB NOT NULL REFERENCES jobs (id),
    place        INTEGER NOT NULL,
    state        TEXT NOT NULL,
    asked        INTEGER NOT NULL,
    wanted       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    class        INTEGER,
    reveal_by_ms INTEGER,
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    root         BLOB,
    manifest     BLOB,
    cause        TEXT,
    exit_code    INTEGER,
    reason       TEXT NOT NULL DEFAULT '',
    ended_ms     INTEGER,
    UNIQUE (job, place)
) STRICT;
CREATE INDEX tasks_open ON tasks (state) WHERE ended_ms IS NULL;

CREATE TABLE assignments (
    id              BLOB PRIMARY KEY,
    task            BLOB NOT NULL REFERENCES tasks (id),
    device          BLOB NOT NULL REFERENCES devices (address),
    owner           BLOB NOT NULL,
    state           TEXT NOT NULL,
    price           BLOB NOT NULL,
    lease_until_ms  INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL,
    accepted_ms     INTEGER,
    phase           TEXT NOT NULL DEFAULT '',
    permille        INTEGER NOT NULL DEFAULT 0,
    commitment      BLOB,
    committed_ms    INTEGER,
    root            BLOB,
    manifest        BLOB,
    cause           TEXT,
    exit_code       INTEGER,
    cpu_ns          INTEGER NOT NULL DEFAULT 0,
    peak_memory     INTEGER NOT NULL DEFAULT 0,
    wall_ms         INTEGER NOT NULL DEFAULT 0,
    receipt         BLOB,
    receipt_digest  BLOB,
    revealed_ms     INTEGER,
    judgement       TEXT,
    owed            BLOB NOT NULL,
    judged_ms       INTEGER,
    voucher         BLOB,
    explanation     TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX assignments_task ON assignments (task);
CREATE INDEX assignments_device ON assignments (device, state);
CREATE INDEX assignments_lease ON assignments (lease_until_ms) WHERE state IN ('offered', 'accepted');
-- One device never holds two leases on one task.
CREATE UNIQUE INDEX assignments_once ON assignments (task, device);
CREATE INDEX assignments_uncovered ON assignments (device) WHERE judgement = 'accepted' AND voucher IS NULL;

-- Every entry moves an amount from one account to another: the books add up by construction.
CREATE TABLE accounts (
    name  TEXT PRIMARY KEY,
    taken BLOB NOT NULL,
    given BLOB NOT NULL
) STRICT;

CREATE TABLE entries (
    id         INTEGER PRIMARY KEY,
    key        TEXT NOT NULL UNIQUE,
    at_ms      INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    giver      TEXT NOT NULL,
    taker      TEXT NOT NULL,
    amount     BLOB NOT NULL,
    job        BLOB,
    assignment BLOB
) STRICT;
CREATE INDEX entries_giver ON entries (giver);
CREATE INDEX entries_taker ON entries (taker);

CREATE TABLE vouchers (
    device     BLOB NOT NULL REFERENCES devices (address),
    cumulative BLOB NOT NULL,
    chain_id   INTEGER NOT NULL,
    wallet     BLOB NOT NULL,
    receipts   BLOB NOT NULL,
    signature  BLOB NOT NULL,
    issued_ms  INTEGER NOT NULL,
    held_ms    INTEGER,
    PRIMARY KEY (device, cumulative)
) STRICT, WITHOUT ROWID;
